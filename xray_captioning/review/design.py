"""The design of a reading study: who reads what in which order, and the key to it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from xray_captioning.errors import DataError

CRITERIA = {
    "correctness": "What the text says is true of the images.",
    "completeness": "The text leaves out nothing that matters.",
    "fluency": "The text reads as a report should, whether or not it is true.",
}
LOWEST, HIGHEST = 1, 5
FORMAT = "xray-captioning reading study 1"


@dataclass(frozen=True)
class Case:
    """One study as one reader meets it.

    Parameters
    ----------
    study : str
    texts : tuple of str
        The systems that wrote Text 1 and Text 2.
    repeat : bool
        Whether the reader has met the study before.
    """

    study: str
    texts: tuple[str, str]
    repeat: bool = False


@dataclass
class Sheet:
    """What one reader is given.

    Parameters
    ----------
    reader : str
        ``reader-1`` …, also the name of the folder.
    cases : list of Case
        In the order of reading; the first is case 1.
    sheet : str
        Identifies the sheet in its answers; computed only from what the reader sees.
    sha256 : dict of str to str
        Digest of each file in the folder.
    """

    reader: str
    cases: list[Case]
    sheet: str = ""
    sha256: dict[str, str] = field(default_factory=dict)


@dataclass
class Key:
    """What the owner of a reading study keeps: which system wrote which text.

    Parameters
    ----------
    systems : tuple of str
        The two that are compared, in the order they were asked for.
    studies : list of str
        Ids of the studies that are read.
    identical : int
        In how many of them both systems wrote the same.
    captions_sha256 : str
        Of the file the texts came from.
    seed : int
    sheets : list of Sheet
    """

    systems: tuple[str, str]
    studies: list[str]
    identical: int
    captions_sha256: str
    seed: int
    sheets: list[Sheet]

    def to_json(self) -> str:
        """Return the content of ``key.json``."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, path: Path) -> Key:
        """Read a key.

        Raises
        ------
        DataError
            If the file is no key of a reading study.
        """
        try:
            values = json.loads(path.read_text("utf-8"))
            if values.pop("format") != FORMAT:
                raise ValueError
            sheets = [_sheet(**sheet) for sheet in values.pop("sheets")]
            first, second = values.pop("systems")
            key = cls(systems=(first, second), sheets=sheets, **values)
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror}); check the path") from error
        except (ValueError, KeyError, TypeError, AttributeError):
            raise DataError(
                f"{path}: is no key of a reading study; give the key.json that review export wrote"
            ) from None
        key.check(path)
        return key

    def check(self, path: Path) -> None:
        """Refuse a key whose parts contradict each other.

        Raises
        ------
        DataError
            If a case names a study or system that is not in the study.
        """
        for sheet in self.sheets:
            for number, case in enumerate(sheet.cases, 1):
                if case.study not in self.studies or set(case.texts) != set(self.systems):
                    raise DataError(
                        f"{path}: case {number} of {sheet.reader} does not fit the studies and "
                        "systems named there; use the file as review export wrote it"
                    )


def _sheet(cases: list[dict[str, Any]], **others: Any) -> Sheet:
    made = [Case(case["study"], (*case["texts"],), case["repeat"]) for case in cases]
    return Sheet(cases=made, **others)


def draw_sheets(
    studies: Sequence[str],
    systems: tuple[str, str],
    readers: int,
    repeats: int,
    rng: np.random.Generator,
) -> list[Sheet]:
    """Draw what each reader sees: all studies, in another order for each reader.

    Each system is Text 1 in half of a reader's cases, so that a preference for the first text
    favours neither.

    Parameters
    ----------
    studies : sequence of str
    systems : tuple of str
    readers : int
    repeats : int
        How many of the first cases are shown again at the end, in a new order.
    rng : numpy.random.Generator
        The only source of chance.

    Returns
    -------
    list of Sheet
    """
    return [
        Sheet(f"reader-{number}", _draw_cases(studies, systems, repeats, rng))
        for number in range(1, readers + 1)
    ]


def _draw_cases(
    studies: Sequence[str], systems: tuple[str, str], repeats: int, rng: np.random.Generator
) -> list[Case]:
    order = rng.permutation(len(studies))
    shown = [*order, *rng.permutation(order[:repeats])]
    swapped = rng.permutation(np.arange(len(shown)) % 2)
    return [
        Case(studies[i], systems[::-1] if swap else systems, repeat=place >= len(order))
        for place, (i, swap) in enumerate(zip(shown, swapped))
    ]
