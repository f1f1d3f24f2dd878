"""Requests: what one for captions holds, and how they are refused (RFC 9457), named and logged."""

import io
import json
import re
import sys
import traceback
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, NamedTuple, cast

import msgspec
from flask import Request
from werkzeug import Response

from xray_captioning.data.studies import VIEWS
from xray_captioning.serving.settings import Settings

REQUEST_ID = "[A-Za-z0-9._-]{1,64}"
MOST_TEXT = 10_000  # characters of a study's context, of which a model reads the first words
CONTEXT = ("indication", "prior")  # what a model may read beside images
OPTIONS = ("beam_size", "alternatives", "threshold", "show_unfamiliar")  # beside files and views
_WRITTEN = {int: re.compile(r"[0-9]{1,4}"), float: re.compile(r"[0-9]{1,4}(\.[0-9]{1,20})?|\.[0-9]{1,20}")}


class ProblemError(Exception):
    """A request that is refused with an HTTP status, and a line that quotes nothing it sent."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status, self.detail = HTTPStatus(status), detail


def problem_response(problem: ProblemError, request_id: str) -> Response:
    """Return a problem as it is sent."""
    status, told = problem.status, {"detail": problem.detail, "request_id": request_id}
    document = {"type": "about:blank", "title": status.phrase, "status": int(status), **told}
    # A full queue is worked off in about a second.
    more = {503: {"Retry-After": "1"}, 401: {"WWW-Authenticate": "Bearer"}}.get(status, {})
    headers = {"X-Request-ID": request_id, "Content-Type": "application/problem+json", **more}
    return Response(msgspec.json.encode(document) + b"\n", int(status), headers)


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


class MemoryRequest(Request):
    """A request whose files never touch the disk; werkzeug would spool large ones there."""

    max_form_memory_size = 500_000  # of a field that is no file; less hinders large files, too
    max_form_parts = 200

    def _get_file_stream(self, *_: Any, **__: Any) -> io.BytesIO:
        return io.BytesIO()


class Upload(NamedTuple):
    """What a request for captions holds."""

    studies: list[list[bytes]]  # the files of each study
    views: list[list[str] | None]  # of each study's files, where they are said
    beam_size: int | None  # None is the bundle's own
    alternatives: int  # to answer with, at most
    threshold: float | None  # confidence below which a sentence is withheld, in [0, 1]
    show_unfamiliar: bool  # whether to answer with the text for unfamiliar images, too
    context: list[dict[str, str]] | None = None  # of each study, where the model reads any


def study_fields(settings: Settings) -> list[str]:
    """Return the names of the fields that hold images, one for each study."""
    return ["images", *(f"images.{number}" for number in range(2, settings.studies + 1))]


def field_beside(images: str, name: str = "views") -> str:
    """Return the name of the field that says which views a field of images shows, or else of them."""
    return images.replace("images", name)


def read_upload(request: Request, settings: Settings, views: int, calibrated: bool, kinds: Sequence[str]) -> Upload:
    """Return what a request holds; `ProblemError` refuses what is no such form."""
    if request.mimetype != "multipart/form-data":
        raise ProblemError(415, "send multipart/form-data with the files in the field images")
    names = study_fields(settings)
    _check_names(request, names, kinds)
    studies = _studies(request, names, views)
    beam_size = _field(request, "beam_size", int, 1, settings.beam)
    alternatives = _field(request, "alternatives", int, 0, settings.beam - 1) or 0
    threshold = _field(request, "threshold", float, 0, 1)
    flags = [value.lower() for value in request.form.getlist("show_unfamiliar")]
    if flags not in ([], ["true"], ["false"]):
        raise ProblemError(422, "show_unfamiliar must be one true or false")
    if threshold is not None and not calibrated:
        raise ProblemError(422, "this model is not calibrated; send no threshold")
    if beam_size is None and alternatives:
        beam_size = alternatives + 1
    counts = [*map(len, studies), *[0] * (len(names) - len(studies))]
    shown = [_views(request, name, count) for name, count in zip(names, counts)][: len(studies)]
    told = [_texts(request, images, kinds, count) for images, count in zip(names, counts)][: len(studies)]
    return Upload(studies, shown, beam_size, alternatives, threshold, flags == ["true"], told if kinds else None)


def _check_names(request: Request, known: list[str], kinds: Sequence[str]) -> None:
    if request.args:
        raise ProblemError(400, "there are no query parameters; send fields of the form")
    if unread := [kind for kind in CONTEXT if kind not in kinds and kind in request.form]:
        raise ProblemError(422, f"this model reads no {unread[0]}; send none")
    fields = {*OPTIONS, *(field_beside(images, name) for images in known for name in ("views", *kinds))}
    if not (request.form.keys() <= fields and request.files.keys() <= set(known)):
        files, others = " to ".join(known[:1] + known[1:][-1:]), ", ".join(OPTIONS)
        said = f"a field is not known, or no file; files are {files}, one field per study, other fields are {others}"
        raise ProblemError(400, f"{said}, and {', '.join(('views', *kinds))} with a number as images have")


def _studies(request: Request, names: list[str], views: int) -> list[list[bytes]]:
    given = [request.files.getlist(name) for name in names]
    while given and not given[-1]:
        given.pop()
    if not given:
        none = "there is no file in the field images, or the form is damaged"
        raise ProblemError(400, f"{none}; send one to {views} PNG, JPEG, TIFF, BMP, WebP or DICOM files")
    for name, files in zip(names, given):
        if not 1 <= len(files) <= views:
            raise ProblemError(422, f"{name}: {len(files)} files, but a study has 1 to {views}")
    # Without a copy: the streams are MemoryRequest's.
    return [[cast(io.BytesIO, file.stream).getvalue() for file in files] for files in given]


def _views(request: Request, images: str, count: int) -> list[str] | None:
    name = field_beside(images)
    given = request.form.getlist(name)
    if not given:
        return None
    if not count:
        raise ProblemError(422, f"{name}: there are no {images}; send files in that field, too")
    if len(given) != count or not set(given) <= set(VIEWS):
        raise ProblemError(422, f"{name}: repeat it as {images}, {count} times, each one of {', '.join(VIEWS)}")
    return given


def _texts(request: Request, images: str, kinds: Sequence[str], count: int) -> dict[str, str]:
    given = {kind: request.form.getlist(field_beside(images, kind)) for kind in kinds}
    if wrong := [kind for kind, said in given.items() if len(said) > bool(count) or len("".join(said)) > MOST_TEXT]:
        once = f"send it once, beside {images}, of at most {MOST_TEXT:,} characters"
        raise ProblemError(422, f"{field_beside(images, wrong[0])}: {once}")
    return {kind: text for kind, texts in given.items() for text in texts}


def _field(request: Request, name: str, kind: type, least: int, most: int) -> Any:
    if not (values := request.form.getlist(name)):
        return None
    valid = len(values) == 1 and _WRITTEN[kind].fullmatch(values[0])
    if valid and least <= kind(values[0]) <= most:
        return kind(values[0])
    raise ProblemError(422, f"{name} must be one {'whole ' * (kind is int)}number from {least} to {most}")
