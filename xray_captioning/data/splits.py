"""Which studies train a model, which choose its best epoch, and which test it.

A split belongs to the data, not to a run: groups (patients) are ordered by the SHA-256 of
their id and cut at the fractions, with no seed. Two runs on the same data, whatever their
seeds, therefore share their test studies, and no seed can carry a test study into training.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xray_captioning.data.studies import PARTS
from xray_captioning.errors import ConfigError, DataError
from xray_captioning.files import atomic_write

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Split:
    """Study ids of the three parts.

    Attributes
    ----------
    train, val, test : tuple of str
        Studies that train a model, choose its best epoch, and test it.
    """

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]

    @property
    def digest(self) -> str:
        """The SHA-256 of the three parts, in hexadecimal."""
        return _sha256(self.parts)

    @property
    def parts(self) -> dict[str, tuple[str, ...]]:
        """The three parts by name."""
        return {name: getattr(self, name) for name in PARTS}

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Write the split and its digest, whole or not at all."""
        content = {"digest": self.digest, **self.parts}
        atomic_write(path, json.dumps(content, indent=1) + "\n")

    @classmethod
    def from_json(cls, path: str | os.PathLike[str]) -> Split:
        """Read what `to_json` wrote.

        Raises
        ------
        DataError
            If the file cannot be read, is no split, or does not fit its digest.
        """
        content = _load(Path(path))
        split = cls(**{name: _ids(content, name, path) for name in PARTS})
        if content.get("digest") != split.digest:
            raise DataError(f"{path}: was altered, its digest does not fit; make the split anew")
        return split


def split_studies(
    studies: pd.DataFrame,
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
    by: str = "patient_id",
    published: bool = True,
) -> Split:
    """Split studies into train, val and test.

    Parameters
    ----------
    studies : pandas.DataFrame
        As `read_studies` returns it.
    fractions : tuple of three floats
        Shares of the groups for train, val and test; 0 leaves a part empty.
    by : str
        Column whose equal values stay together.
    published : bool
        Whether the split that the source names, if it names one, is taken as it stands.

    Returns
    -------
    Split
        The ids of each part are sorted, so the order of rows does not matter.

    Raises
    ------
    ConfigError
        If the fractions are negative or do not sum to 1, or there is no column `by`.
    DataError
        If a study id occurs twice, or some studies name a published part and others none.
    """
    _check_fractions(fractions)
    if by not in studies.columns:
        raise ConfigError(f"by={by!r} is no column; found: {', '.join(map(str, studies.columns))}")
    _check_unique(list(studies["study_id"]))
    if published and studies["split"].notna().any():
        part_of = _published(studies)
    else:
        part_of = _by_group(list(studies[by]), fractions)
    parts: dict[str, list[str]] = {name: [] for name in PARTS}
    for study_id, part in zip(studies["study_id"], part_of, strict=True):
        parts[part].append(study_id)
    return Split(**{name: tuple(sorted(ids)) for name, ids in parts.items()})


def check_split(split: Split, studies: pd.DataFrame) -> None:
    """Raise a DataError unless a split fits the data: no study twice, none unknown."""
    for name, ids in split.parts.items():
        if len(set(ids)) < len(ids):
            raise DataError(f"split: {name} names a study twice; make a new split")
    for (one, ids), (other, others) in combinations(split.parts.items(), 2):
        if both := sorted(set(ids) & set(others)):
            raise DataError(
                f"split: study {both[0]!r} is in {one} and in {other} ({len(both)} such); "
                "make a new split"
            )
    known = set(studies["study_id"])
    unknown = [
        study_id for ids in split.parts.values() for study_id in ids if study_id not in known
    ]
    if unknown:
        raise DataError(
            f"split: study {unknown[0]!r} is not in the data ({len(unknown)} such); "
            "give the data the split was made of"
        )


def data_digest(studies: pd.DataFrame) -> str:
    """Return the SHA-256 of what the studies say, in hexadecimal, whatever the order of rows.

    It is over the sorted (study_id, findings, impression, problems); where the images lie plays no
    part.
    """
    columns = (studies[name] for name in ("study_id", "findings", "impression", "problems"))
    rows = sorted(zip(*columns, strict=True), key=lambda row: json.dumps(row))
    return _sha256(rows)


def _sha256(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _check_fractions(fractions: Sequence[float]) -> None:
    fits = len(fractions) == 3 and all(fraction >= 0 for fraction in fractions)
    if not fits or not math.isclose(sum(fractions), 1.0, abs_tol=1e-6):
        raise ConfigError(f"fractions {tuple(fractions)} must be three, none below 0, of sum 1")


def _check_unique(ids: list[str]) -> None:
    for study_id, count in Counter(ids).most_common(1):
        if count > 1:
            raise DataError(f"studies: study {study_id!r} occurs {count} times; keep one of them")


def _published(studies: pd.DataFrame) -> list[str]:
    """Return the part every study's source puts it in."""
    for study_id, part in zip(studies["study_id"], studies["split"], strict=True):
        if part not in PARTS:
            raise DataError(
                f"studies: study {study_id!r} has split {part!r} where others have a part; name "
                "train, val or test for every study, or pass published=False"
            )
    return list(studies["split"])


def _by_group(groups: Iterable[str], fractions: tuple[float, float, float]) -> list[str]:
    """Return the part of each study by the hash of its group."""
    names = [str(group) for group in groups]
    ordered = sorted(set(names), key=lambda name: _sha256(name))
    first, second = (round(len(ordered) * sum(fractions[:k])) for k in (1, 2))
    part_of = {name: PARTS[(rank >= first) + (rank >= second)] for rank, name in enumerate(ordered)}
    return [part_of[name] for name in names]


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not valid JSON ({error}); make the split anew") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: is not a split; make it anew")
    return content


def _ids(content: dict[str, Any], name: str, path: str | os.PathLike[str]) -> tuple[str, ...]:
    ids = content.get(name)
    if not isinstance(ids, list) or not all(isinstance(study_id, str) for study_id in ids):
        raise DataError(f"{path}: {name} is not a list of study ids; make the split anew")
    return tuple(ids)
