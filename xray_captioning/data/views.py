"""The view of a radiograph: what a source or a DICOM file calls it, its place in a model."""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import TypeVar

from xray_captioning.data.studies import FRONTAL, LATERAL, UNKNOWN

_FRONTAL = frozenset(("AP", "PA", "FRONTAL"))
_LATERAL = frozenset(("LL", "RL", "LAT", "LATERAL", "LLAT", "RLAT"))
T = TypeVar("T")
_NEITHER = re.compile(r"DECUB|OBL")  # a lateral decubitus is no lateral view


@lru_cache(maxsize=1000)  # a table says the same few words again and again
def named_view(name: str) -> str:
    """Return the view, 'frontal', 'lateral' or 'unknown', that words such as 'AP SUPINE' name:
    oblique, decubitus, neither and both are unknown; a lone 'L' is lateral, beside another word the
    left.
    """
    if name.strip().upper() == "L":
        return LATERAL
    words = set(re.findall("[A-Z]+", name.upper()))
    frontal, lateral = bool(words & _FRONTAL), bool(words & _LATERAL)
    if frontal == lateral or _NEITHER.search(name.upper()):
        return UNKNOWN
    return FRONTAL if frontal else LATERAL


def select_images(
    images: Sequence[T], views: Sequence[str], count: int, repeat: bool = False
) -> list[T | None]:
    """Put a study's images into the ``count`` places of a model: frontal, lateral, None or the
    first image again (`repeat`); empty ones at the end are left out. A known view never takes the
    other's place, because a model learns what is seen there; of one, a lateral comes last.
    """
    rest = list(range(len(images)))

    def take(*wanted: str) -> int | None:
        for place in (place for view in wanted for place in rest if views[place] == view):
            rest.remove(place)
            return place
        return None

    if count == 1:
        order = [take(FRONTAL, UNKNOWN, LATERAL)]
    else:
        order = [take(FRONTAL, UNKNOWN), take(LATERAL, UNKNOWN), *rest][:count]
    chosen = [None if place is None else images[place] for place in order]
    while chosen and chosen[-1] is None:
        chosen.pop()
    return repeat_first(chosen, count) if repeat else chosen


def repeat_first(chosen: Sequence[T | None], count: int) -> list[T | None]:
    """Return places with the first image of a study in every empty one, up to ``count``."""
    first = next((image for image in chosen if image is not None), None)
    places = [*chosen, *[None] * (count - len(chosen))]
    return [] if first is None else [first if image is None else image for image in places]
