"""Errors as documents (RFC 9457), events as log lines, and the identifier that ties both."""

import json
import re
import sys
import traceback
import uuid
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import msgspec
from werkzeug import Response

REQUEST_ID = "[A-Za-z0-9._-]{1,64}"


class ProblemError(Exception):
    """A request that is refused with an HTTP status, and a line that quotes nothing it sent."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status, self.detail = HTTPStatus(status), detail


def problem_response(problem: ProblemError, request_id: str) -> Response:
    """Return a problem as it is sent."""
    status = problem.status
    named = {"type": "about:blank", "title": status.phrase, "status": int(status)}
    document = {**named, "detail": problem.detail, "request_id": request_id}
    # A full queue is worked off in about a second.
    more = {503: {"Retry-After": "1"}, 401: {"WWW-Authenticate": "Bearer"}}.get(status, {})
    headers = {"X-Request-ID": request_id, **more}
    text = msgspec.json.encode(document) + b"\n"
    return Response(text, int(status), headers, content_type="application/problem+json")


def request_id(given: str | None) -> str:
    """Return the identifier that a client gave, if it is a short harmless word, or a new one."""
    return given if given and re.fullmatch(REQUEST_ID, given) else uuid.uuid4().hex


def log(event: str, **values: Any) -> None:
    """Write an event to standard error as one line of JSON."""
    # Values are numbers and words of the program only. Of what a client sent nothing is logged but
    # the identifier it chose for its request.
    stamp = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    sys.stderr.write(json.dumps({"time": stamp, "event": event, **values}) + "\n")
    sys.stderr.flush()


def trace(error: BaseException) -> dict[str, Any]:
    """Return an error's type and where it was raised; its message may quote what was sent."""
    frames = traceback.extract_tb(error.__traceback__)[-6:]
    places = [f"{frame.filename.rpartition('/')[2]}:{frame.lineno}" for frame in frames]
    return {"error": type(error).__name__, "at": places}
