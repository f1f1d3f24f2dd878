"""The API's OpenAPI description, made from the views and the types of their answers.

Each view gives its summary (docstring), its name (operationId) and its answer (return annotation);
`msgspec` turns types into schemas. Only the upload is described here by hand, because its limits
are those of a server.

References
----------
.. [1] OpenAPI Specification 3.1.0.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import flask
import msgspec

from xray_captioning import __version__
from xray_captioning.captioner.captioner import Captioner
from xray_captioning.serving.problems import REQUEST_ID, Problem
from xray_captioning.serving.settings import Settings, is_protected
from xray_captioning.serving.uploads import study_fields

_INFO = {
    "title": "xray_captioning",
    "version": __version__,
    "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
    "description": "Captions of chest X-rays. For research and teaching; not for clinical use. "
    "Every answer has the header X-Request-ID, the client's own where it sent a word of up to 64 "
    "letters, digits, dots, underscores or hyphens.",
}
_FILES = "image/png, image/jpeg, application/dicom, application/octet-stream"
_REFUSED: dict[str, tuple[int, ...]] = {
    "/v1/captions": (400, 413, 415, 422, 500, 503),
    "/readyz": (503,),
}


def describe(app: flask.Flask, captioner: Captioner, settings: Settings) -> dict[str, Any]:
    """Return an OpenAPI 3.1 document.

    Parameters
    ----------
    app : flask.Flask
        With all its views.
    captioner : Captioner
        Says how many images a study has, and whether a threshold can be used.
    settings : Settings
    """
    paths: dict[str, dict[str, Any]] = {}
    types: list[Any] = [Problem]
    for rule in app.url_map.iter_rules():
        operation, answer = _operation(rule.rule, app.view_functions[rule.endpoint], settings)
        types += [answer] if _is_struct(answer) else []
        (method,) = (rule.methods or set()) - {"HEAD", "OPTIONS"}
        paths.setdefault(rule.rule, {})[method.lower()] = operation
    paths["/v1/captions"]["post"]["requestBody"] = _request_body(settings)
    _, schemas = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    schemas["Upload"] = _upload(captioner, settings)
    components: dict[str, Any] = {**_shared(), "schemas": schemas}
    if settings.token is not None:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    return {"openapi": "3.1.0", "info": _INFO, "paths": paths, "components": components}


def _operation(path: str, view: Any, settings: Settings) -> tuple[dict[str, Any], Any]:
    """Return the description of a view, and the type of its answer."""
    answer, kind = get_type_hints(view, include_extras=True)["return"], "application/json"
    if get_origin(answer) is Annotated:
        answer, kind = get_args(answer)
    summary = view.__doc__.splitlines()[0]
    statuses = _REFUSED.get(path, ())
    operation: dict[str, Any] = {"operationId": view.__name__, "summary": summary}
    if settings.token is not None and is_protected(path):
        operation["security"] = [{"token": []}]
        statuses = (401, *statuses)
    responses = {str(status): _refused(status) for status in statuses}
    operation["responses"] = {
        "200": {
            "description": answer.__doc__ if _is_struct(answer) else summary,
            "headers": {"X-Request-ID": _reference("headers", "RequestId")},
            "content": {kind: {"schema": _schema(answer)}},
        },
        **responses,
    }
    return operation, answer


def _schema(answer: Any) -> dict[str, Any]:
    if _is_struct(answer):
        return _reference("schemas", answer.__name__)
    return {"type": "string" if answer is flask.Response else "object"}


def _is_struct(answer: Any) -> bool:
    return isinstance(answer, type) and issubclass(answer, msgspec.Struct)


def _refused(status: int) -> dict[str, Any]:
    return _reference("responses", "Busy" if status == 503 else "Problem")


def _reference(kind: str, name: str) -> dict[str, str]:
    return {"$ref": f"#/components/{kind}/{name}"}


def _shared() -> dict[str, Any]:
    """Return headers and responses that operations refer to."""
    header = {"X-Request-ID": _reference("headers", "RequestId")}
    content = {"application/problem+json": {"schema": _reference("schemas", "Problem")}}
    retry = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
    return {
        "headers": {
            "RequestId": {
                "description": "Names this request in the server's log.",
                "schema": {"type": "string", "pattern": f"^{REQUEST_ID}$"},
            }
        },
        "responses": {
            "Problem": {
                "description": "Refused; the detail says why.",
                "headers": header,
                "content": content,
            },
            "Busy": {
                "description": "Too much to do, not ready yet, or stopping.",
                "headers": {**header, **retry},
                "content": content,
            },
        },
    }


def _request_body(settings: Settings) -> dict[str, Any]:
    encoding = {name: {"contentType": _FILES} for name in study_fields(settings)}
    schema = _reference("schemas", "Upload")
    return {
        "required": True,
        "content": {"multipart/form-data": {"schema": schema, "encoding": encoding}},
    }


def _upload(captioner: Captioner, settings: Settings) -> dict[str, Any]:
    """Return the schema of the form that is sent."""
    files = {
        "type": "array",
        "minItems": 1,
        "maxItems": captioner.config.image.views,
        "items": {"type": "string", "format": "binary"},
    }
    names = study_fields(settings)
    fields: dict[str, Any] = {
        name: {**files, "description": "The files of a further study."} for name in names
    }
    fields["images"]["description"] = (
        "The files of one study: repeat the field, frontal view first. DICOM files that say which "
        "view they show are put in order. A further study goes into images.2, the next into "
        "images.3."
    )
    fields["beam_size"] = {
        "type": "integer",
        "minimum": 1,
        "maximum": settings.beam,
        "description": "1 is greedy search. A size not used before is compiled first, which takes "
        "seconds.",
    }
    fields["alternatives"] = {
        "type": "integer",
        "minimum": 0,
        "maximum": settings.beam - 1,
        "description": "How many further captions to answer with at most: a search has fewer than "
        "its beam_size, which is one more than this where it is absent. With a threshold there are "
        "none.",
    }
    if captioner.calibration is not None:
        fields["threshold"] = {
            "type": "number",
            "minimum": 0,
            "maximum": 1,
            "description": "Sentences of less confidence are replaced by 'not confident', and "
            "above 0 every sentence of unfamiliar images. Only calibrated models have this field.",
        }
    return {
        "type": "object",
        "properties": fields,
        "required": ["images"],
        # No study is left out: images.3 comes with images.2.
        "dependentRequired": {name: [before] for before, name in pairwise(names)},
        "additionalProperties": False,
    }
