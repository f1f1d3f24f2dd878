"""The API's OpenAPI 3.1 description: ``openapi.json`` with a server's limits, and its views.

Of a view the docstring is the summary, the name the operationId, the annotation the answer.
"""

import json
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, get_origin, get_type_hints

import flask
import msgspec

from xray_captioning import __version__
from xray_captioning.captioner.captioner import Captioner
from xray_captioning.serving.problems import Problem
from xray_captioning.serving.settings import Settings, is_protected
from xray_captioning.serving.uploads import study_fields, view_field

_FILES = (
    "image/png, image/jpeg, image/tiff, image/bmp, image/webp, application/dicom, "
    "application/octet-stream"
)
_REFUSED: dict[str, tuple[int, ...]] = {
    "/v1/captions": (400, 413, 415, 422, 500, 503),
    "/readyz": (503,),
}
_HEADER = {"X-Request-ID": {"$ref": "#/components/headers/RequestId"}}


def describe(app: flask.Flask, captioner: Captioner, settings: Settings) -> dict[str, Any]:
    """Return an OpenAPI 3.1 document of an application that has all its views."""
    document: dict[str, Any] = json.loads(Path(__file__).with_name("openapi.json").read_bytes())
    document["info"]["version"] = __version__
    rules = list(app.url_map.iter_rules())
    views = [app.view_functions[rule.endpoint] for rule in rules]
    types = [Problem, *(_answer(view)[0] for view in views)]
    (_, *answers), schemas = msgspec.json.schema_components(
        types, ref_template="#/components/schemas/{name}"
    )
    paths, components = document["paths"], document["components"]
    for rule, view, schema in zip(rules, views, answers):
        (method,) = (rule.methods or set()) - {"HEAD", "OPTIONS"}
        operation = _operation(rule.rule, view, schema, settings)
        paths.setdefault(rule.rule, {})[method.lower()] = operation
    encoding = {name: {"contentType": _FILES} for name in study_fields(settings)}
    form = {"schema": {"$ref": "#/components/schemas/Upload"}, "encoding": encoding}
    body = {"required": True, "content": {"multipart/form-data": form}}
    paths["/v1/captions"]["post"]["requestBody"] = body
    described = components["schemas"]
    _limit(described["Upload"], captioner, settings)
    for name, schema in schemas.items():
        for field, meaning in described.get(name, {}).get("properties", {}).items():
            schema["properties"][field] |= meaning
    described |= schemas
    if settings.token is not None:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    return document


def _answer(view: Any) -> tuple[Any, str]:
    """Return the type of a view's answer, and the content type in which it is sent."""
    answer = get_type_hints(view, include_extras=True)["return"]
    if get_origin(answer) is Annotated:
        return str, answer.__metadata__[0]
    return answer, "application/json"


def _operation(path: str, view: Any, schema: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """Return the description of a view whose answers have a schema."""
    answer, content_type = _answer(view)
    summary, statuses = view.__doc__.splitlines()[0], _REFUSED.get(path, ())
    operation: dict[str, Any] = {"operationId": view.__name__, "summary": summary}
    if settings.token is not None and is_protected(path):
        operation["security"] = [{"token": []}]
        statuses = (401, *statuses)
    good = {
        "description": answer.__doc__ if "$ref" in schema else summary,
        "headers": _HEADER,
        "content": {content_type: {"schema": schema}},
    }
    refused = {status: "Busy" if status == 503 else "Problem" for status in statuses}
    operation["responses"] = {"200": good} | {
        str(status): {"$ref": f"#/components/responses/{name}"} for status, name in refused.items()
    }
    return operation


def _limit(upload: dict[str, Any], captioner: Captioner, settings: Settings) -> None:
    """Complete the schema of the form that is sent by the limits of a server."""
    fields, names = upload["properties"], study_fields(settings)
    for name in ("images", "views"):
        fields[name]["maxItems"] = captioner.config.image.views
    for name in names[1:]:
        files, shown = "The files of a further study.", f"As views, of {name}."
        fields[name] = fields["images"] | {"description": files}
        fields[view_field(name)] = fields["views"] | {"description": shown}
    fields["beam_size"]["maximum"] = settings.beam
    fields["alternatives"]["maximum"] = settings.beam - 1
    if captioner.calibration is None:
        del fields["threshold"]
    # No study is left out: images.3 comes with images.2.
    before = {name: [earlier] for earlier, name in pairwise(names)}
    upload["dependentRequired"] = before | {view_field(name): [name] for name in names}
