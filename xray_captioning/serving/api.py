"""The API as a WSGI application, and its OpenAPI 3.1 description."""

import base64
import hashlib
import hmac
import json
import time
from pathlib import Path
from typing import Any

import flask
import msgspec
from werkzeug import Response
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from xray_captioning import __version__
from xray_captioning.captioner.captioner import Captioner
from xray_captioning.errors import ImageError, MissingExtraError
from xray_captioning.files import read_toml
from xray_captioning.plots.images import environment
from xray_captioning.serving import answers, requests
from xray_captioning.serving.engine import CONTENT_TYPE, BusyError, Engine
from xray_captioning.serving.requests import ProblemError, log, problem_response, request_id, trace
from xray_captioning.serving.settings import Settings, is_protected

_TABLES = read_toml(__file__, "api.toml")
HEADERS: dict[str, str] = _TABLES["headers"]
DETAILS: dict[int, str] = {int(status): said for status, said in _TABLES["details"].items()}


class _App(flask.Flask):
    """Flask, with views that return what is sent as JSON."""

    request_class = requests.MemoryRequest

    def make_response(self, rv: Any) -> flask.Response:
        if isinstance(rv, dict):
            rv = flask.Response(msgspec.json.encode(rv), content_type="application/json")
        return super().make_response(rv)


def create_app(captioner: Captioner, settings: Settings | None = None) -> flask.Flask:
    """Return the API over a captioner; ``extensions["captions"]`` of it is the `Engine`.

    It starts a thread that owns the model and compiles it; ``/readyz`` says when that is done. So
    it must be made in the very process that answers, after any fork.
    """
    settings = settings or Settings()
    app = _App("xray_captioning.serving", static_folder=None)
    app.url_map.merge_slashes = False  # or //x would be redirected, with no problem document
    app.config["MAX_CONTENT_LENGTH"] = settings.body_bytes
    app.extensions["captions"] = engine = Engine(captioner, settings)
    app.before_request(lambda: _begin(settings))
    app.after_request(lambda response: _end(response, engine))
    app.register_error_handler(Exception, _problem)
    _add_routes(app, engine)
    _add_pages(app, describe_api(captioner, settings))
    return app


def _add_routes(app: _App, engine: Engine) -> None:
    captioner, settings = engine.captioner, engine.settings
    app.add_url_rule("/v1/captions", "captions", lambda: _answer(engine), methods=["POST"])
    app.add_url_rule("/v1/model", "model", lambda: answers.describe_model(captioner, settings))
    app.add_url_rule("/healthz", "health", lambda: {"status": "alive"})  # whether the process is alive
    app.add_url_rule("/readyz", "ready", lambda: _ready(engine))  # whether requests for captions are accepted
    app.add_url_rule("/metrics", "metrics", lambda: flask.Response(engine.metrics.text(), content_type=CONTENT_TYPE))


def _answer(engine: Engine) -> dict[str, Any]:
    begun = time.monotonic()
    _ready(engine)
    views, calibrated = engine.captioner.config.image.views, engine.captioner.calibration is not None
    kinds = engine.captioner.config.text.context
    upload = requests.read_upload(flask.request, engine.settings, views, calibrated, kinds)
    flask.g.studies = len(upload.studies)
    with engine.capacity.taken(len(upload.studies)):
        return _captions(engine, upload, begun)


def _captions(engine: Engine, upload: requests.Upload, begun: float) -> dict[str, Any]:
    deadline, pixels = begun + engine.settings.seconds, []
    for number, (files, views) in enumerate(zip(upload.studies, upload.views), 1):
        pixels.append(engine.decode(files, f"study {number}, " if number > 1 else "", deadline, views))
    decoding, results = time.monotonic() - begun, engine.predict(pixels, upload.beam_size, deadline, upload.context)
    asked = upload.threshold, upload.alternatives, upload.show_unfamiliar, upload.attention
    first, *further = [answers.describe_study(result.value, *asked) for result in results]
    engine.metrics.studies.inc(len(results))
    total = time.monotonic() - begun
    engine.metrics.seconds.observe(total)
    waited, took = (max(times) for times in zip(*(result[1:] for result in results)))
    seconds = {"decoding": decoding, "waiting": waited, "model": took, "total": total}
    own = dict(zip(("model", "version", "digest"), engine.captioner.identity))
    told = {**own, "timing": {name: round(s, 4) for name, s in seconds.items()}}
    told |= {"notice": answers.notice(engine.captioner), "request_id": flask.g.request_id}
    return {**msgspec.structs.asdict(first), "further": further, **told}


def _ready(engine: Engine) -> dict[str, Any]:
    if engine.failed:
        raise ProblemError(503, "the model cannot be run; the server's log tells why")
    if not engine.ready:
        why = "the server is stopping" if engine.draining else "the model is being compiled"
        raise ProblemError(503, f"{why}; try again soon")
    return {"status": "ready"}


def _add_pages(app: _App, described: dict[str, Any]) -> None:
    text = Path(__file__).with_name("page.html").read_text("utf-8")
    docs = environment().get_template("serving/docs.html").render(api=described, style=_element(text, "style"))
    own = f"script-src {_hash(text, 'script')}; style-src {_hash(text, 'style')}; img-src blob:; connect-src 'self'"
    policy = f"default-src 'none'; {own}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    sent: Any = {"headers": {"Content-Security-Policy": policy}, "content_type": "text/html; charset=utf-8"}
    app.add_url_rule("/", "page", lambda: flask.Response(text, **sent))
    app.add_url_rule("/docs", "docs", lambda: flask.Response(docs, **sent))
    app.add_url_rule("/openapi.json", "description", lambda: flask.jsonify(described))


def _element(page: str, element: str) -> str:
    return page.partition(f"<{element}>")[2].partition(f"</{element}>")[0]


def _hash(page: str, element: str) -> str:
    """Return the one element of its kind as a source that a content security policy allows."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(_element(page, element).encode()).digest()).decode()}'"


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
    if (problem := _as_problem(error)).status == 500:
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
    code = (error.code or 500) if isinstance(error, HTTPException) else 500
    return ProblemError(code, DETAILS.get(code, DETAILS[400])) if code < 500 else ProblemError(500, DETAILS[500])


def _end(response: flask.Response, engine: Engine) -> flask.Response:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers["X-Request-ID"] = flask.g.request_id
    # The rule and not the path, which a client may have put anything into.
    rule, status = flask.request.url_rule, response.status_code
    route, method = (rule.rule, flask.request.method) if rule else ("none", "-")
    engine.metrics.requests.labels(route, str(status)).inc()
    named = {"request_id": flask.g.request_id, "method": method, "route": route, "status": status}
    log("request", **named, seconds=round(time.monotonic() - flask.g.begun, 4), studies=flask.g.studies)
    return response


def describe_api(captioner: Captioner, settings: Settings) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of a server."""
    limits = {"settings": settings, "names": requests.study_fields(settings), "views": captioner.config.image.views}
    own = {"version": __version__, "token": settings.token is not None, "calibrated": captioner.calibration is not None}
    own |= {"context": captioner.config.text.context, "most_text": requests.MOST_TEXT}
    return json.loads(environment().get_template("serving/openapi.jinja").render(limits | own))
