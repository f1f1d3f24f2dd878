"""A request for captions: fields checked, files kept in memory."""

import io
import re
from typing import Any, NamedTuple, cast

from flask import Request

from xray_captioning.data.studies import VIEWS
from xray_captioning.serving.problems import ProblemError
from xray_captioning.serving.settings import Settings

OPTIONS = ("beam_size", "alternatives", "threshold", "show_unfamiliar")  # beside files and views
_WRITTEN = {int: re.compile(r"[0-9]{1,4}"), float: re.compile(r"[0-9]{1,4}(\.[0-9]{1,20})?|\.[0-9]{1,20}")}


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


def study_fields(settings: Settings) -> list[str]:
    """Return the names of the fields that hold images, one for each study."""
    return ["images", *(f"images.{number}" for number in range(2, settings.studies + 1))]


def view_field(images: str) -> str:
    """Return the name of the field that says which views a field of images shows."""
    return images.replace("images", "views")


def read_upload(request: Request, settings: Settings, views: int, calibrated: bool) -> Upload:
    """Return what a request holds; `ProblemError` refuses what is no such form."""
    if request.mimetype != "multipart/form-data":
        raise ProblemError(415, "send multipart/form-data with the files in the field images")
    names = study_fields(settings)
    _check_names(request, names)
    studies = _studies(request, names, views)
    beam_size = _field(request, "beam_size", int, 1, settings.beam)
    alternatives = _field(request, "alternatives", int, 0, settings.beam - 1) or 0
    threshold = _field(request, "threshold", float, 0, 1)
    show_unfamiliar = _flag(request, "show_unfamiliar")
    if threshold is not None and not calibrated:
        raise ProblemError(422, "this model is not calibrated; send no threshold")
    if beam_size is None and alternatives:
        beam_size = alternatives + 1
    counts = [*map(len, studies), *[0] * (len(names) - len(studies))]
    shown = [_views(request, name, count) for name, count in zip(names, counts)][: len(studies)]
    return Upload(studies, shown, beam_size, alternatives, threshold, show_unfamiliar)


def _check_names(request: Request, known: list[str]) -> None:
    if request.args:
        raise ProblemError(400, "there are no query parameters; send fields of the form")
    fields = {*OPTIONS, *map(view_field, known)}
    if not (request.form.keys() <= fields and request.files.keys() <= set(known)):
        files, others = " to ".join(known[:1] + known[1:][-1:]), ", ".join(OPTIONS)
        said = f"a field is not known, or no file; files are {files}, one field per study, other "
        said += f"fields are {others}, and views with a number as images have"
        raise ProblemError(400, said)


def _studies(request: Request, names: list[str], views: int) -> list[list[bytes]]:
    given = [request.files.getlist(name) for name in names]
    while given and not given[-1]:
        given.pop()
    if not given:
        kinds = "PNG, JPEG, TIFF, BMP, WebP or DICOM files"
        none = "there is no file in the field images, or the form is damaged"
        raise ProblemError(400, f"{none}; send one to {views} {kinds}")
    for name, files in zip(names, given):
        if not 1 <= len(files) <= views:
            raise ProblemError(422, f"{name}: {len(files)} files, but a study has 1 to {views}")
    # Without a copy: the streams are MemoryRequest's.
    return [[cast(io.BytesIO, file.stream).getvalue() for file in files] for files in given]


def _views(request: Request, images: str, count: int) -> list[str] | None:
    name = view_field(images)
    given = request.form.getlist(name)
    if not given:
        return None
    if not count:
        raise ProblemError(422, f"{name}: there are no {images}; send files in that field, too")
    if len(given) != count or not set(given) <= set(VIEWS):
        said = f"repeat it as {images}, {count} times, each one of {', '.join(VIEWS)}"
        raise ProblemError(422, f"{name}: {said}")
    return given


def _field(request: Request, name: str, kind: type, least: int, most: int) -> Any:
    values = request.form.getlist(name)
    if not values:
        return None
    valid = len(values) == 1 and _WRITTEN[kind].fullmatch(values[0])
    if valid and least <= kind(values[0]) <= most:
        return kind(values[0])
    said = "whole number" if kind is int else "number"
    raise ProblemError(422, f"{name} must be one {said} from {least} to {most}")


def _flag(request: Request, name: str) -> bool:
    values = [value.lower() for value in request.form.getlist(name)]
    if values not in ([], ["true"], ["false"]):
        raise ProblemError(422, f"{name} must be one true or false")
    return values == ["true"]
