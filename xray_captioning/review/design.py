"""The design of a reading study: who reads what in which order, and the key to it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta, Struct

from xray_captioning.errors import DataError

CRITERIA = {
    "correctness": "What the text says is true of the images.",
    "completeness": "The text leaves out nothing that matters.",
    "fluency": "The text reads as a report should, whether or not it is true.",
}
LOWEST, HIGHEST = 1, 5
FORMAT = "xray-captioning reading study 1"


class Case(Struct, frozen=True, forbid_unknown_fields=True):
    """One study as one reader is shown it."""

    study: str
    texts: tuple[str, str]  # the systems that wrote Text 1 and Text 2
    repeat: bool = False  # whether the reader has read the study before


class Sheet(Struct, forbid_unknown_fields=True):
    """What one reader is given."""

    reader: str  # ``reader-1`` …, also the name of the folder
    cases: list[Case]  # in the order of reading; the first is case 1
    sheet: str = ""  # identifies it in its answers; computed only from what the reader sees
    sha256: dict[str, str] = {}  # digest of each file in the folder


class Key(Struct, forbid_unknown_fields=True):
    """What the owner of a reading study keeps: which system wrote which text."""

    format: Annotated[str, Meta(pattern=f"^{FORMAT}$")]
    systems: tuple[str, str]  # the two that are compared, in the order they were asked for
    studies: list[str]  # ids of those that are read
    identical: int  # in how many of them both systems wrote the same
    captions_sha256: str  # of the file the texts came from
    seed: int
    sheets: list[Sheet]

    def to_json(self) -> bytes:
        """Return the content of ``key.json``."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n"

    @classmethod
    def from_json(cls, path: Path) -> Key:
        """Read a key whose parts do not contradict each other."""
        try:
            key = msgspec.json.decode(path.read_bytes(), type=cls)
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror}); check the path") from error
        except (ValueError, msgspec.MsgspecError):
            advice = "give the key.json that review export wrote"
            raise DataError(f"{path}: is no key of a reading study; {advice}") from None
        for sheet in key.sheets:
            for number, case in enumerate(sheet.cases, 1):
                if case.study not in key.studies or set(case.texts) != set(key.systems):
                    what = f"case {number} of {sheet.reader} does not fit the studies and systems"
                    advice = "use the file as review export wrote it"
                    raise DataError(f"{path}: {what} named there; {advice}")
        return key


def draw_cases(
    studies: Sequence[str], systems: tuple[str, str], repeats: int, rng: np.random.Generator
) -> list[Case]:
    """Draw what a reader sees: all studies, in another order for each reader.

    Each system is Text 1 in half of a reader's cases, so that a preference for the first text
    favours neither. As many of the first cases as `repeats` come again at the end, in a new order.
    """
    order = rng.permutation(len(studies))
    shown = [*order, *rng.permutation(order[:repeats])]
    swapped = rng.permutation(np.arange(len(shown)) % 2)
    return [
        Case(studies[i], systems[::-1] if swap else systems, repeat=place >= len(order))
        for place, (i, swap) in enumerate(zip(shown, swapped))
    ]
