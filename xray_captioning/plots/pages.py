"""HTML pages made from the package's templates."""

import re
from functools import cache
from typing import Any

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


def render(template: str, **values: Any) -> str:
    """Fill a template, named by its path in the package, so that no text can become a tag or an
    attribute; control characters and lone surrogates are replaced.
    """
    page: str = environment().get_template(template).render(values)
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", page)


@cache
def environment() -> Any:
    """Return Jinja's environment: where templates are found, and how they are read."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("xray_captioning", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.policies["json.dumps_kwargs"] = {}  # as it stands, not sorted by name
    return environment
