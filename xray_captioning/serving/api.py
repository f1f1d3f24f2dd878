"""The API as a WSGI application."""

import base64
import hashlib
import hmac
import re
import time
from pathlib import Path
from typing import Any

import flask
import msgspec
from werkzeug import Response
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from xray_captioning.captioner.captioner import Captioner
from xray_captioning.errors import ImageError, MissingExtraError
from xray_captioning.files import read_toml
from xray_captioning.serving import answers, openapi
from xray_captioning.serving.engine import CONTENT_TYPE, BusyError, Engine
from xray_captioning.serving.problems import ProblemError, log, problem_response, request_id, trace
from xray_captioning.serving.settings import Settings, is_protected
from xray_captioning.serving.uploads import MemoryRequest, Upload, read_upload

_TABLES = read_toml(__file__, "api.toml")
HEADERS: dict[str, str] = _TABLES["headers"]
DETAILS: dict[int, str] = {int(status): said for status, said in _TABLES["details"].items()}


class _App(flask.Flask):
    """Flask, with views that return what is sent as JSON."""

    request_class = MemoryRequest
    get: Any
    post: Any

    def make_response(self, rv: Any) -> flask.Response:
        if isinstance(rv, dict):
            rv = flask.Response(msgspec.json.encode(rv), content_type="application/json")
        return super().make_response(rv)


def create_app(captioner: Captioner, settings: Settings | None = None) -> flask.Flask:
    """Return the API over a captioner.

    It starts a thread that owns the model and compiles it; ``/readyz`` says when that is done. So
    it must be made in the very process that answers, after any fork. ``extensions["captions"]`` of
    what is returned is the `Engine`.
    """
    settings = settings or Settings()
    app = _App("xray_captioning.serving", static_folder=None)
    app.url_map.merge_slashes = False  # or //x would be redirected, with no problem document
    app.config["MAX_CONTENT_LENGTH"] = settings.body_bytes
    app.extensions["captions"] = engine = Engine(captioner, settings)
    app.before_request(lambda: _begin(settings))
    app.after_request(lambda response: _end(response, engine))
    app.register_error_handler(Exception, _problem)
    _add_captions(app, engine)
    _add_operations(app, engine, openapi.describe(captioner, settings))
    _add_page(app)
    return app


def _add_captions(app: _App, engine: Engine) -> None:
    captioner, settings = engine.captioner, engine.settings

    @app.post("/v1/captions")
    def caption() -> dict[str, Any]:
        """Caption the studies sent."""
        begun = time.monotonic()
        _check_ready(engine)
        views, calibrated = captioner.config.image.views, captioner.calibration is not None
        upload = read_upload(flask.request, settings, views, calibrated)
        flask.g.studies = len(upload.studies)
        with engine.capacity.taken(len(upload.studies)):
            return _answer(engine, upload, begun)

    @app.get("/v1/model")
    def model() -> dict[str, Any]:
        """Describe the model that is served, and its limits."""
        return answers.describe_model(captioner, settings)


def _answer(engine: Engine, upload: Upload, begun: float) -> dict[str, Any]:
    deadline = begun + engine.settings.seconds
    labels = ["", *(f"study {number}, " for number in range(2, len(upload.studies) + 1))]
    pixels = [
        engine.decode(files, label, deadline, views)
        for files, label, views in zip(upload.studies, labels, upload.views)
    ]
    decoding = time.monotonic() - begun
    results = engine.predict(pixels, upload.beam_size, deadline)
    asked = upload.threshold, upload.alternatives, upload.show_unfamiliar
    first, *further = [answers.describe_study(result.value, *asked) for result in results]
    engine.metrics.studies.inc(len(results))
    total = time.monotonic() - begun
    engine.metrics.seconds.observe(total)
    waited, took = (max(times) for times in zip(*(result[1:] for result in results)))
    seconds = (decoding, waited, took, total)
    names = ("decoding", "waiting", "model", "total")
    return {
        **msgspec.structs.asdict(first),
        "further": further,
        "model": engine.captioner.config.name,
        "timing": {name: round(s, 4) for name, s in zip(names, seconds)},
        "notice": answers.notice(engine.captioner),
        "request_id": flask.g.request_id,
    }


def _add_operations(app: _App, engine: Engine, described: dict[str, Any]) -> None:
    @app.get("/healthz")
    def health() -> dict[str, Any]:
        """Whether the process is alive."""
        return {"status": "alive"}

    @app.get("/readyz")
    def ready() -> dict[str, Any]:
        """Whether requests for captions are accepted."""
        _check_ready(engine)
        return {"status": "ready"}

    @app.get("/metrics")
    def metrics() -> flask.Response:
        """Counts and times for Prometheus, text format 0.0.4."""
        return flask.Response(engine.metrics.text(), content_type=CONTENT_TYPE)

    @app.get("/openapi.json")
    def description() -> flask.Response:
        """Describe the API as an OpenAPI 3.1 document."""
        return flask.jsonify(described)


def _check_ready(engine: Engine) -> None:
    if engine.failed:
        raise ProblemError(503, "the model cannot be run; the server's log tells why")
    if not engine.ready:
        why = "the server is stopping" if engine.draining else "the model is being compiled"
        raise ProblemError(503, f"{why}; try again soon")


def _add_page(app: _App) -> None:
    text = Path(__file__).with_name("page.html").read_text("utf-8")
    policy = (
        f"default-src 'none'; script-src {_hash(text, 'script')}; style-src {_hash(text, 'style')};"
        " img-src blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )

    @app.get("/")
    def page() -> flask.Response:
        """Return a page to upload images on."""
        response = flask.Response(text, content_type="text/html; charset=utf-8")
        response.headers["Content-Security-Policy"] = policy
        return response


def _hash(page: str, element: str) -> str:
    """Return the one element of its kind as a source that a content security policy allows."""
    found = re.search(f"<{element}>(.*?)</{element}>", page, re.DOTALL)
    assert found is not None
    digest = base64.b64encode(hashlib.sha256(found[1].encode()).digest()).decode()
    return f"'sha256-{digest}'"


def _begin(settings: Settings) -> None:
    flask.g.begun, flask.g.studies = time.monotonic(), 0
    flask.g.request_id = request_id(flask.request.headers.get("X-Request-ID"))
    check_token(flask.request.path, flask.request.headers.get("Authorization", ""), settings)


def check_token(path: str, authorization: str, settings: Settings) -> None:
    """Refuse a request whose header Authorization (RFC 6750) lacks the token its path needs."""
    if settings.token is None or not is_protected(path):
        return
    kind, _, given = authorization.partition(" ")
    if kind.lower() != "bearer" or not hmac.compare_digest(given.encode(), settings.token.encode()):
        raise ProblemError(401, "show the token: Authorization: Bearer TOKEN")


def _problem(error: Exception) -> Response:
    """Turn whatever was raised into a problem document."""
    problem = _as_problem(error)
    if problem.status == 500:
        log("error", request_id=flask.g.request_id, **trace(error))
    response = problem_response(problem, flask.g.request_id)
    if isinstance(error, MethodNotAllowed):
        response.allow.update(error.valid_methods or ())
    return response


def _as_problem(error: Exception) -> ProblemError:
    if isinstance(error, ProblemError):
        return error
    if isinstance(error, BusyError):
        return ProblemError(503, "too much to do at the moment; try again soon")
    if isinstance(error, ImageError):
        return ProblemError(422, str(error))
    if isinstance(error, MissingExtraError):
        return ProblemError(415, "this server reads no DICOM; send PNG or JPEG")
    if isinstance(error, HTTPException) and (error.code or 500) < 500:
        return ProblemError(error.code or 400, DETAILS.get(error.code or 400, DETAILS[400]))
    return ProblemError(500, DETAILS[500])


def _end(response: flask.Response, engine: Engine) -> flask.Response:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers["X-Request-ID"] = flask.g.request_id
    # The rule and not the path, which a client may have put anything into.
    route = flask.request.url_rule.rule if flask.request.url_rule else "none"
    engine.metrics.requests.labels(route, str(response.status_code)).inc()
    log(
        "request",
        request_id=flask.g.request_id,
        method=flask.request.method if flask.request.url_rule else "-",
        route=route,
        status=response.status_code,
        seconds=round(time.monotonic() - flask.g.begun, 4),
        studies=flask.g.studies,
    )
    return response
