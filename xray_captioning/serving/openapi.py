"""The API's OpenAPI 3.1 description, made from the views and the types of their answers.

Each view gives its summary (docstring), its name (operationId) and its answer (return annotation);
`msgspec` turns types into schemas. Only the upload is described here by hand, because its limits
are those of a server.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, get_origin, get_type_hints

import flask
import msgspec

from xray_captioning import __version__
from xray_captioning.captioner.captioner import Captioner
from xray_captioning.data.studies import VIEWS
from xray_captioning.serving.problems import REQUEST_ID, Problem
from xray_captioning.serving.settings import Settings, is_protected
from xray_captioning.serving.uploads import study_fields, view_field

_INFO = {
    "title": "xray_captioning",
    "version": __version__,
    "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
    "description": "Captions of chest X-rays. For research and teaching; not for clinical use. "
    "Every answer has the header X-Request-ID, the client's own where it sent a word of up to 64 "
    "letters, digits, dots, underscores or hyphens.",
}
_SCHEMAS = "#/components/schemas/"
_FILES = (
    "image/png, image/jpeg, image/tiff, image/bmp, image/webp, application/dicom, "
    "application/octet-stream"
)
_REFUSED: dict[str, tuple[int, ...]] = {
    "/v1/captions": (400, 413, 415, 422, 500, 503),
    "/readyz": (503,),
}
_HEADER = {"X-Request-ID": {"$ref": "#/components/headers/RequestId"}}
_NUMBERS = {
    "beam_size": "1 is greedy search. A size not used before is compiled first, which takes "
    "seconds.",
    "alternatives": "How many further captions to answer with at most: a search has fewer than its "
    "beam_size, which is one more than this where it is absent. With a threshold there are none.",
    "threshold": "Sentences of less confidence are replaced by 'not confident', and above 0 every "
    "sentence of unfamiliar images. Only calibrated models have this field.",
}


def describe(app: flask.Flask, captioner: Captioner, settings: Settings) -> dict[str, Any]:
    """Return an OpenAPI 3.1 document of an application that has all its views."""
    rules = list(app.url_map.iter_rules())
    views = [app.view_functions[rule.endpoint] for rule in rules]
    types = [Problem, *(_answer(view)[0] for view in views)]
    (_, *answers), schemas = msgspec.json.schema_components(
        types, ref_template=f"{_SCHEMAS}{{name}}"
    )
    paths: dict[str, dict[str, Any]] = {}
    for rule, view, schema in zip(rules, views, answers):
        (method,) = (rule.methods or set()) - {"HEAD", "OPTIONS"}
        operation = _operation(rule.rule, view, schema, settings)
        paths.setdefault(rule.rule, {})[method.lower()] = operation
    paths["/v1/captions"]["post"]["requestBody"] = _request_body(settings)
    schemas["Upload"] = _upload(captioner, settings)
    components: dict[str, Any] = {**_shared(), "schemas": schemas}
    if settings.token is not None:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    return {"openapi": "3.1.0", "info": _INFO, "paths": paths, "components": components}


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


def _shared() -> dict[str, Any]:
    """Return headers and responses that operations refer to."""
    identity = {"type": "string", "pattern": f"^{REQUEST_ID}$"}
    content = {"application/problem+json": {"schema": {"$ref": f"{_SCHEMAS}Problem"}}}
    problem = {"description": "Refused; the detail says why.", "headers": _HEADER}
    retry = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
    busy = {
        "description": "Too much to do, not ready yet, or stopping.",
        "headers": _HEADER | retry,
    }
    named = "Names this request in the server's log."
    return {
        "headers": {"RequestId": {"description": named, "schema": identity}},
        "responses": {
            "Problem": problem | {"content": content},
            "Busy": busy | {"content": content},
        },
    }


def _request_body(settings: Settings) -> dict[str, Any]:
    encoding = {name: {"contentType": _FILES} for name in study_fields(settings)}
    form = {"schema": {"$ref": f"{_SCHEMAS}Upload"}, "encoding": encoding}
    return {"required": True, "content": {"multipart/form-data": form}}


def _upload(captioner: Captioner, settings: Settings) -> dict[str, Any]:
    """Return the schema of the form that is sent."""
    views, names = captioner.config.image.views, study_fields(settings)
    file = {"type": "string", "format": "binary"}
    files = {"type": "array", "minItems": 1, "maxItems": views, "items": file}
    fields: dict[str, Any] = {
        name: {**files, "description": "The files of a further study."} for name in names
    }
    fields["images"]["description"] = (
        "The files of one study: repeat the field, frontal view first. DICOM files that say which "
        "view they show are put in order. A further study goes into images.2, the next into "
        "images.3."
    )
    shown = {"type": "array", "minItems": 1, "maxItems": views, "items": {"enum": list(VIEWS)}}
    said = {view_field(name): {**shown, "description": f"As views, of {name}."} for name in names}
    said["views"]["description"] = (
        "What each file of images shows: repeat the field as often. Where it is absent, what a "
        "DICOM file says counts, else the order; what a file is called decides nothing."
    )
    numbers = {"beam_size": ("integer", 1, settings.beam)}
    numbers["alternatives"] = ("integer", 0, settings.beam - 1)
    if captioner.calibration is not None:
        numbers["threshold"] = ("number", 0, 1)
    for name, (kind, least, most) in numbers.items():
        fields[name] = {"type": kind, "minimum": least, "maximum": most}
        fields[name]["description"] = _NUMBERS[name]
    return {
        "type": "object",
        "properties": fields | said,
        "required": ["images"],
        # No study is left out: images.3 comes with images.2.
        "dependentRequired": {
            **{name: [before] for before, name in pairwise(names)},
            **{view_field(name): [name] for name in names},
        },
        "additionalProperties": False,
    }
