"""The API's description of itself, with the limits of the server that gives it."""

from __future__ import annotations

import json
from importlib import resources
from itertools import pairwise
from typing import Any

from xray_captioning import __version__
from xray_captioning.captioner.captioner import Captioner
from xray_captioning.serving.settings import Settings
from xray_captioning.serving.uploads import study_fields

_FOR_TOKENS = ("/v1/captions", "/v1/model", "/metrics")


def description(captioner: Captioner, settings: Settings) -> dict[str, Any]:
    """Return an OpenAPI 3.1 document.

    Parameters
    ----------
    captioner : Captioner
        Says how many images a study has.
    settings : Settings

    References
    ----------
    .. [1] OpenAPI Specification 3.1.0.
    """
    text = resources.files("xray_captioning.serving").joinpath("openapi.json").read_text("utf-8")
    document: dict[str, Any] = json.loads(text)
    document["info"]["version"] = __version__
    upload = document["components"]["schemas"]["Upload"]
    form, names = upload["properties"], study_fields(settings)
    form["beam_size"]["maximum"] = settings.beam
    form["alternatives"]["maximum"] = settings.beam - 1
    form["images"]["maxItems"] = captioner.config.image.views
    encoding = document["paths"]["/v1/captions"]["post"]["requestBody"]["content"][
        "multipart/form-data"
    ]["encoding"]
    # No study is left out: images.3 comes with images.2.
    upload["dependentRequired"] = {name: [before] for before, name in pairwise(names)}
    for name in names[1:]:
        form[name] = {**form["images"], "description": "The files of a further study."}
        encoding[name] = encoding["images"]
    if captioner.calibration is None:
        del form["threshold"]
    if settings.token is not None:
        _demand_token(document)
    return document


def _demand_token(document: dict[str, Any]) -> None:
    document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    for path in _FOR_TOKENS:
        for operation in document["paths"][path].values():
            operation["security"] = [{"token": []}]
            operation["responses"]["401"] = {"$ref": "#/components/responses/Problem"}
