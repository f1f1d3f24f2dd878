"""The API's OpenAPI 3.1 description: ``openapi.json``, and what differs from server to server."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

from xray_captioning import __version__
from xray_captioning.captioner.captioner import Captioner
from xray_captioning.serving.settings import Settings, is_protected
from xray_captioning.serving.uploads import study_fields, view_field


def describe(captioner: Captioner, settings: Settings) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of a server."""
    document: dict[str, Any] = json.loads(Path(__file__).with_name("openapi.json").read_bytes())
    document["info"]["version"] = __version__
    body = document["paths"]["/v1/captions"]["post"]["requestBody"]
    encoding = body["content"]["multipart/form-data"]["encoding"]
    encoding |= dict.fromkeys(study_fields(settings), encoding["images"])
    _limit(document["components"]["schemas"]["Upload"], captioner, settings)
    if settings.token is not None:
        _protect(document)
    return document


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


def _protect(document: dict[str, Any]) -> None:
    """Say which paths ask for the token."""
    document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    for path, methods in document["paths"].items():
        for operation in methods.values() if is_protected(path) else ():
            operation["security"] = [{"token": []}]
            operation["responses"]["401"] = {"$ref": "#/components/responses/Problem"}
