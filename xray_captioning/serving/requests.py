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
from typing import Any, NamedTuple, TypeAlias, cast

import msgspec
from flask import Request
from werkzeug import Response

from xray_captioning.data.studies import VIEWS
from xray_captioning.serving.settings import Settings

REQUEST_ID = "[A-Za-z0-9._-]{1,64}"
MOST_TEXT = 10_000  # characters of a study's context, of which a model reads the first words
CONTEXT = ("indication", "prior")  # what a model may read beside images
OPTIONS = ("beam_size", "alternatives", "threshold", "show_unfamiliar", "attention")  # beside files and views
_KEYS = re.compile(rb'"([a-z_.0-9]{1,40})"\s*:')  # no text holds one: its quotation marks are escaped
_ESCAPED = re.compile(rb"\\u00(2e|3[0-9]|5f|6[1-9a-f]|7[0-9a])", re.I)  # of what names of fields are made of
_TYPES: dict[str, Any] = {"images": list[bytes], "views": list[str], **dict.fromkeys(CONTEXT, str)}  # in JSON
_TYPES |= dict.fromkeys(OPTIONS, bool | int | float)
Files: TypeAlias = dict[str, list[bytes]]  # by field
Form: TypeAlias = dict[str, list[str]]
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
    attention: bool  # whether to answer with the attention of each word
    context: list[dict[str, str]] | None = None  # of each study, where the model reads any


def study_fields(settings: Settings) -> list[str]:
    """Return the names of the fields that hold images, one for each study."""
    return ["images", *(f"images.{number}" for number in range(2, settings.studies + 1))]


def field_beside(images: str, name: str = "views") -> str:
    """Return the name of the field that says which views a field of images shows, or else of them."""
    return images.replace("images", name)


def read_upload(request: Request, settings: Settings, views: int, calibrated: bool, kinds: Sequence[str]) -> Upload:
    """Return what a request holds; `ProblemError` refuses what is no such form."""
    if request.mimetype == "application/json":
        files, form = _read_json(request)
    elif request.mimetype == "multipart/form-data":  # without a copy: the streams are MemoryRequest's
        given, form = request.files.lists(), dict(request.form.lists())
        files = {name: [cast(io.BytesIO, file.stream).getvalue() for file in own] for name, own in given}
    else:
        raise ProblemError(415, "send multipart/form-data with the files in the field images, or application/json")
    if request.args:
        raise ProblemError(400, "there are no query parameters; send fields of the form")
    names = study_fields(settings)
    _check_names(files, form, names, kinds)
    studies, beam_size = _studies(files, names, views), _field(form, "beam_size", int, 1, settings.beam)
    alternatives = _field(form, "alternatives", int, 0, settings.beam - 1) or 0
    threshold = _field(form, "threshold", float, 0, 1)
    wanted = {name: [value.lower() for value in form.get(name, ["false"])] for name in ("show_unfamiliar", "attention")}
    if wrong := [name for name, said in wanted.items() if said not in (["true"], ["false"])]:
        raise ProblemError(422, f"{wrong[0]} must be one true or false")
    if threshold is not None and not calibrated:
        raise ProblemError(422, "this model is not calibrated; send no threshold")
    if beam_size is None and alternatives:
        beam_size = alternatives + 1
    counts = [*map(len, studies), *[0] * (len(names) - len(studies))]
    shown = [_views(form, name, count) for name, count in zip(names, counts)][: len(studies)]
    told = [_texts(form, images, kinds, count) for images, count in zip(names, counts)][: len(studies)]
    flags = {name: said == ["true"] for name, said in wanted.items()}
    return Upload(studies, shown, beam_size, alternatives, threshold, context=told if kinds else None, **flags)


def _read_json(request: Request) -> tuple[Files, Form]:
    """Return the fields of a JSON object whose files are in base64 (RFC 4648, section 4)."""
    body = request.get_data(cache=False)
    if body.count(b",") > MemoryRequest.max_form_memory_size:  # base64 has none; each value takes memory
        raise ProblemError(413, "too many values in the JSON; /v1/model says what is allowed")
    if _ESCAPED.search(body):  # as no program writes it, and no pattern finds a name
        raise ProblemError(400, "letters, digits, dots and underscores are written as escapes; write them as they are")
    if len(keys := _KEYS.findall(body)) != len(set(keys)):
        raise ProblemError(400, "a field is there twice; send the images of a study as one list")
    sent, field = dict[str, Any](), ""
    try:
        for name, raw in msgspec.json.decode(body, type=dict[str, msgspec.Raw]).items():
            field = name.partition(".")[0]
            sent[name] = msgspec.json.decode(raw, type=_TYPES.get(field, msgspec.Raw))
    except (ValueError, RecursionError) as error:
        base64 = "base64 (with padding, without line breaks or data: in front)"
        lists = f"images are a list of files in {base64}, views of texts; options are numbers, true or false"
        what = f"{field} cannot be read" if field in _TYPES else "this is no JSON object of the fields of the form"
        raise ProblemError(400, f"{what}: {lists}") from error
    files = {name: sent.pop(name) for name in list(sent) if name.startswith("images")}
    # As a form has them: 5.0, which is a whole number in JSON, and no exponents.
    texts = {n: f"{v + 0.0:.20f}".rstrip("0").rstrip(".") if isinstance(v, float) else str(v) for n, v in sent.items()}
    return files, {name: sent[name] if isinstance(sent[name], list) else [text] for name, text in texts.items()}


def _check_names(files: Files, form: Form, known: list[str], kinds: Sequence[str]) -> None:
    if unread := [kind for kind in CONTEXT if kind not in kinds and kind in form]:
        raise ProblemError(422, f"this model reads no {unread[0]}; send none")
    fields = {*OPTIONS, *(field_beside(images, name) for images in known for name in ("views", *kinds))}
    if not (form.keys() <= fields and files.keys() <= set(known)):
        images, others = " to ".join(known[:1] + known[1:][-1:]), ", ".join(OPTIONS)
        said = f"a field is not known, or no file; files are {images}, one field per study, other fields are {others}"
        raise ProblemError(400, f"{said}, and {', '.join(('views', *kinds))} with a number as images have")


def _studies(files: Files, names: list[str], views: int) -> list[list[bytes]]:
    given = [files.get(name, []) for name in names]
    while given and not given[-1]:
        given.pop()
    if not given:
        none = "there is no file in the field images, or the form is damaged"
        raise ProblemError(400, f"{none}; send one to {views} PNG, JPEG, TIFF, BMP, WebP or DICOM files")
    for name, study in zip(names, given):
        if not 1 <= len(study) <= views:
            raise ProblemError(422, f"{name}: {len(study)} files, but a study has 1 to {views}")
    return given


def _views(form: Form, images: str, count: int) -> list[str] | None:
    name = field_beside(images)
    if not (given := form.get(name)):
        return None
    if not count:
        raise ProblemError(422, f"{name}: there are no {images}; send files in that field, too")
    if len(given) != count or not set(given) <= set(VIEWS):
        raise ProblemError(422, f"{name}: repeat it as {images}, {count} times, each one of {', '.join(VIEWS)}")
    return given


def _texts(form: Form, images: str, kinds: Sequence[str], count: int) -> dict[str, str]:
    given = {kind: form.get(field_beside(images, kind), []) for kind in kinds}
    if wrong := [kind for kind, said in given.items() if len(said) > bool(count) or len("".join(said)) > MOST_TEXT]:
        once = f"send it once, beside {images}, of at most {MOST_TEXT:,} characters"
        raise ProblemError(422, f"{field_beside(images, wrong[0])}: {once}")
    return {kind: text for kind, texts in given.items() for text in texts}


def _field(form: Form, name: str, kind: type, least: int, most: int) -> Any:
    if not (values := form.get(name)):
        return None
    if len(values) == 1 and _WRITTEN[kind].fullmatch(values[0]) and least <= kind(values[0]) <= most:
        return kind(values[0])
    raise ProblemError(422, f"{name} must be one {'whole ' * (kind is int)}number from {least} to {most}")
