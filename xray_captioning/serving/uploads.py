"""A request for captions: fields checked, files kept in memory."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any, NamedTuple, cast

from flask import Request

from xray_captioning.serving.problems import ProblemError
from xray_captioning.serving.settings import Settings

_WHOLE = re.compile(r"[0-9]{1,4}")
_DECIMAL = re.compile(r"[0-9]{1,4}(\.[0-9]{1,20})?|\.[0-9]{1,20}")


class MemoryRequest(Request):
    """A request whose files never touch the disk; werkzeug would spool large ones there."""

    max_form_memory_size = 500_000  # of a field that is no file; less hinders large files, too
    max_form_parts = 100

    def _get_file_stream(self, *_: Any, **__: Any) -> io.BytesIO:
        return io.BytesIO()


class Upload(NamedTuple):
    """What a request for captions holds.

    Attributes
    ----------
    studies : list of list of bytes
        The files of each study.
    beam_size : int or None
        None is the bundle's own.
    alternatives : int
        Largest number to answer with.
    threshold : float or None
        Confidence below which a sentence is withheld.
    """

    studies: list[list[bytes]]
    beam_size: int | None
    alternatives: int
    threshold: float | None


def study_fields(settings: Settings) -> list[str]:
    """Return the names of the fields that hold images, one for each study."""
    return ["images", *(f"images.{number}" for number in range(2, settings.studies + 1))]


def read_upload(request: Request, settings: Settings, views: int, calibrated: bool) -> Upload:
    """Return what a request for captions holds.

    Parameters
    ----------
    request : flask.Request
    settings : Settings
    views : int
        Most images of a study.
    calibrated : bool
        Whether a threshold can be used.

    Raises
    ------
    ProblemError
        It is not a form, or a field is missing, unknown or out of range.
    """
    if request.mimetype != "multipart/form-data":
        raise ProblemError(415, "send multipart/form-data with the files in the field images")
    _check_names(request, settings)
    studies = _studies(request, settings, views)
    beam_size = _field(request, "beam_size", _WHOLE, int, 1, settings.beam)
    alternatives = _field(request, "alternatives", _WHOLE, int, 0, settings.beam - 1) or 0
    threshold = _field(request, "threshold", _DECIMAL, float, 0, 1)
    if threshold is not None and not calibrated:
        raise ProblemError(422, "this model is not calibrated; send no threshold")
    if beam_size is None and alternatives:
        beam_size = alternatives + 1
    return Upload(studies, beam_size, alternatives, threshold)


def _check_names(request: Request, settings: Settings) -> None:
    known = study_fields(settings)
    if request.args:
        raise ProblemError(400, "there are no query parameters; send fields of the form")
    if set(request.form) - {"beam_size", "alternatives", "threshold"} or set(request.files) - set(
        known
    ):
        raise ProblemError(
            400,
            "a field is not known, or no file; files are "
            f"{' to '.join(known[:1] + known[1:][-1:])}, one field a study, other fields are "
            "beam_size, alternatives and threshold",
        )


def _studies(request: Request, settings: Settings, views: int) -> list[list[bytes]]:
    given = [request.files.getlist(name) for name in study_fields(settings)]
    while given and not given[-1]:
        given.pop()
    if not given:
        raise ProblemError(
            400,
            "there is no file in the field images, or the form is damaged; send one to "
            f"{views} PNG, JPEG or DICOM files",
        )
    for name, files in zip(study_fields(settings), given):
        if not 1 <= len(files) <= views:
            raise ProblemError(422, f"{name}: {len(files)} files, but a study has 1 to {views}")
    # Without a copy: the streams are MemoryRequest's.
    return [[cast(io.BytesIO, file.stream).getvalue() for file in files] for files in given]


def _field(
    request: Request,
    name: str,
    pattern: re.Pattern[str],
    number: Callable[[str], Any],
    least: int,
    most: int,
) -> Any:
    values = request.form.getlist(name)
    if not values:
        return None
    if len(values) == 1 and pattern.fullmatch(values[0]) and least <= number(values[0]) <= most:
        return number(values[0])
    kind = "whole number" if number is int else "number"
    raise ProblemError(422, f"{name} must be one {kind} from {least} to {most}")
