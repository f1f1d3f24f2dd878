"""The studies that a captioner is given: which image shows which view, and whether it can be so."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice, repeat, zip_longest
from typing import Any

import numpy as np

from xray_captioning.config import Config
from xray_captioning.data.features import Features
from xray_captioning.data.images import Image, arranged
from xray_captioning.data.levels import is_pillow, pillow_pixels
from xray_captioning.data.studies import VIEWS, Context
from xray_captioning.data.targets import context_tokens
from xray_captioning.errors import ConfigError, DataError, ImageError

Study = Sequence[Image | None]  # the images of a study; None stands for a view that it lacks
Studies = Iterable[Study]
Views = Sequence[str] | Sequence[Sequence[str] | None] | None  # of the images of all, or of each
Told = Iterable[Context | str | None] | None  # what a model may read beside the images of each study


def arranged_studies(studies: Studies, count: int, views: Views = None) -> Iterator[Study]:
    """Yield the images of studies, as `Captioner.caption` takes them, in their views' places."""
    if _is_image(studies) or hasattr(studies, "columns") or not isinstance(studies, Iterable):
        raise DataError(f"expected lists of images, got {type(studies).__name__}; write [[image]] or table['images']")
    for number, (study, names) in enumerate(_with_views(studies, views)):
        _check_study(number, study, names, count)
        try:
            yield arranged([_plain(image) for image in study], count, names)
        except ImageError as error:
            raise ImageError(f"study {number}: {error}") from None


def with_context(
    batches: Iterable[Features], context: Told, tokenizer: Any, config: Config
) -> Iterator[tuple[Features, Any]]:
    """Yield batches of features and token ids of their context, (studies, kinds, words), None of a model without."""
    kinds = config.text.context
    if context is not None and not kinds:
        raise ConfigError("this model reads images only (text.context is []); leave the context out")
    if isinstance(context, str | Mapping):
        raise DataError("context: expected a list, of the texts of each study; put it in brackets")
    given = repeat(None) if context is None else iter(context)
    for batch in batches:
        texts = [_checked(one, kinds) for one in islice(given, len(batch.mask))]
        if len(texts) < len(batch.mask):
            raise DataError("context: there are not as many as studies; give each its own, None for none")
        yield batch, context_tokens(texts, tokenizer, config) if kinds else None
    if context is not None and list(islice(given, 1)):
        raise DataError("context: there are more than studies; give each its own")


def _checked(given: Context | str | None, kinds: Sequence[str]) -> Context:
    """Return a study's context by kind; what is wrong is told without its words, which are a patient's."""
    context = given if isinstance(given, Mapping) else {kinds[0]: given} if kinds else {}
    if not set(context) <= set(kinds):
        raise ConfigError(f"context: beside images this model reads {' and '.join(kinds)}; leave other texts out")
    if not all(text is None or isinstance(text, str) for text in context.values()):
        raise DataError("context: a study's is a text, or a dict of texts by kind; give None where there is none")
    return context


def _plain(image: Image | None) -> Image | None:
    """Return a path as text and an image of Pillow as pixels; all else as it is."""
    if is_pillow(image):
        return pillow_pixels(image)
    return os.fspath(image) if isinstance(image, os.PathLike) else image


def _with_views(studies: Studies, views: Views) -> Iterator[tuple[Study, Sequence[str] | None]]:
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
    if _is_image(study) or not isinstance(study, Sequence) or all(image is None for image in study):
        what = f"study {number}: expected a list of one to {most} images, got {study!r:.99}"
        raise DataError(f"{what}; put it in brackets")
    for image in study:
        if not (image is None or _is_image(image)):
            advice = "give its path, the bytes of its file, an image of Pillow, or pixels as a NumPy array"
            raise DataError(f"study {number}: an image is of type {type(image).__name__}; {advice}")
    if len(study) > most:
        raise DataError(f"study {number}: {len(study)} images given, but this model looks at {most}; choose among them")
    if names is None:
        return
    if len(names) != len(study) or not set(names) <= set(VIEWS) or any(x is None for x in study):
        advice = f"give each image one of {', '.join(VIEWS)}"
        raise DataError(f"study {number}: views are {list(names)!r:.99} of {len(study)} images; {advice}")


def _is_image(given: object) -> bool:
    pixels = isinstance(given, np.ndarray) and given.dtype != object
    return pixels or isinstance(given, (str, bytes, os.PathLike)) or is_pillow(given)
