"""The studies that a captioner is given: which image shows which view, and whether it can be so."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat, zip_longest
from typing import Any

import numpy as np

from xray_captioning.data.images import Image, arranged
from xray_captioning.data.studies import VIEWS
from xray_captioning.errors import DataError, ImageError

Study = Sequence[Image | None]  # the images of a study; None stands for a view that it lacks
IMAGE = (str, bytes, os.PathLike, np.ndarray)
Views = Sequence[str] | Sequence[Sequence[str] | None]  # of the images of all, or of each


def arranged_studies(
    studies: Iterable[Study], count: int, views: Views | None = None
) -> Iterator[Study]:
    """Yield the images of each study in the places of a model of ``count`` views.

    `studies` and `views` are as :meth:`xray_captioning.Captioner.caption` takes them.

    Raises
    ------
    DataError
        A study is no list of images, has too many or two of one view, or `views` does not fit.
    """
    for number, (study, names) in enumerate(_with_views(studies, views)):
        _check_study(number, study, names, count)
        paths = [os.fspath(x) if isinstance(x, os.PathLike) else x for x in study]
        try:
            yield arranged(paths, count, names)
        except ImageError as error:
            raise ImageError(f"study {number}: {error}") from None


def _with_views(
    studies: Iterable[Study], views: Views | None
) -> Iterator[tuple[Study, Sequence[str] | None]]:
    """Yield each study with the names of its views, None where they are not given."""
    if isinstance(views, str):
        raise DataError(f"views is {views!r}; give a list of a name for each image")
    if views is None or all(isinstance(names, str) for names in views):
        yield from zip(studies, repeat(views))
        return
    missing: Any = object()
    for number, pair in enumerate(zip_longest(studies, views, fillvalue=missing)):
        if any(item is missing for item in pair):
            raise DataError(f"views: there are not as many as studies, {number}; give each its own")
        yield pair


def _check_study(number: int, study: Study, names: Sequence[str] | None, most: int) -> None:
    whole = isinstance(study, IMAGE) or not isinstance(study, Sequence)
    if whole or all(image is None for image in study):
        raise DataError(
            f"study {number}: expected a list of one to {most} images, got {study!r:.99}"
        )
    for image in study:
        if not (image is None or isinstance(image, IMAGE)):
            raise DataError(
                f"study {number}: an image is of type {type(image).__name__}; give its path, "
                "the bytes of its file, or pixels (of one of Pillow: "
                "numpy.asarray(image.convert('L')))"
            )
    if len(study) > most:
        raise DataError(
            f"study {number}: {len(study)} images given, but this model looks at {most}; "
            "choose among them"
        )
    if names is None:
        return
    if len(names) != len(study) or not set(names) <= set(VIEWS) or any(x is None for x in study):
        raise DataError(
            f"study {number}: views are {list(names)!r:.99} of {len(study)} images; give each "
            f"image one of {', '.join(VIEWS)}"
        )
