"""Which studies train a model, which choose its best epoch, and which test it. The SHA-256 of a group's (patient's) id
is read as a number in [0, 1), and the part of the fractions that it falls into is the group's. So two runs share their
test studies, and studies that are added later move none into another part.
"""

import hashlib
import json
import math
import os
import warnings
from bisect import bisect_right
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, combinations
from pathlib import Path
from typing import Any, Self

from xray_captioning.data.studies import PARTS, Studies, check_unique, checked_table, patient_or_study, torn
from xray_captioning.errors import ConfigError, DataError
from xray_captioning.files import atomic_write, read_json

FRACTIONS = (0.8, 0.1, 0.1)
_ANEW = "make the split anew"


class SplitWarning(UserWarning):
    """A split is not what it seems: a patient in two parts, an empty part, fractions not used."""


warn_of_split = partial(warnings.warn, category=SplitWarning, stacklevel=3)


@dataclass(frozen=True)
class Split:
    """Ids of the studies that train a model, choose its best epoch, and test it."""

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
        atomic_write(path, json.dumps({"digest": self.digest, **self.parts}, indent=1) + "\n")

    @classmethod
    def from_json(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `to_json` wrote; raise a DataError for another file or an altered one."""
        split: Self = read_json(Path(path), _ANEW, DataError, cls)
        if read_json(Path(path), _ANEW, DataError).get("digest") != split.digest:
            raise DataError(f"{path}: was altered, its digest does not fit; {_ANEW}")
        return split


def split_studies(
    studies: Studies, fractions: Sequence[float] | None = None, by: str = "patient_id", published: bool = True
) -> Split:
    """Split studies into train, val and test.

    Parameters
    ----------
    studies : pandas.DataFrame
        As `read_studies` returns it.
    fractions : tuple of three floats, optional
        Probabilities that a group is in train, val and test, by default 0.8, 0.1, 0.1; 0 leaves a part empty. Of n
        groups a share p is met within 2 * sqrt(n * p * (1 - p)), nearly always.
    by : str
        Column whose equal values stay together; a study without one is a group of its own.
    published : bool
        Whether the split that the source names, if any, is taken as it stands, over `fractions`.

    Raises
    ------
    ConfigError, DataError
        Fractions are negative or not of sum 1, or there is no column `by`; a study id occurs twice, or some studies
        name a published part and others none.

    Warns
    -----
    SplitWarning
        If the published split tears a group or wins over `fractions`, or a part is empty.
    """
    checked_table(studies, ("study_id", "split"))
    given = FRACTIONS if fractions is None else fractions
    _check_fractions(given)
    if by not in studies.columns:
        raise ConfigError(f"by={by!r} is no column; found: {', '.join(map(str, studies.columns))}")
    check_unique(studies["study_id"])
    if published and studies["split"].notna().any():
        for study_id, part in zip(studies["study_id"], studies["split"], strict=True):
            if part not in PARTS:
                raise DataError(f"studies: study {study_id!r} has split {part!r} where others have a part; name one")
        split = _in_parts(studies, list(studies["split"]))
        _warn_of_published(split, studies, by, fractions)
        return split
    split = _in_parts(studies, by_hash(group_ids(studies, by), given))
    for (name, ids), fraction in zip(split.parts.items(), given, strict=True):
        if fraction > 0 and not ids:
            advice = "give more studies or a larger fraction"
            warn_of_split(f"no study fell into {name}, whose fraction is {fraction:g}; {advice}")
    return split


def _in_parts(studies: Studies, part_of: Sequence[str]) -> Split:
    pairs = list(zip(studies["study_id"], part_of, strict=True))
    return Split(*(tuple(sorted(study_id for study_id, part in pairs if part == name)) for name in PARTS))


def check_split(split: Split, studies: Studies) -> None:
    """Refuse an unknown study, one that stands twice, and a patient in two parts but of the source's own split."""
    for name, ids in split.parts.items():
        if len(set(ids)) < len(ids):
            raise DataError(f"split: {name} names a study twice; make a new split")
    for (one, ids), (other, others) in combinations(split.parts.items(), 2):
        if both := sorted(set(ids) & set(others)):
            raise DataError(f"split: study {both[0]!r} is in {one} and in {other}; make a new split")
    known = set(studies["study_id"])
    if unknown := [i for ids in split.parts.values() for i in ids if i not in known]:
        raise DataError(f"split: study {unknown[0]!r} is not in the data ({len(unknown)} such); give all data")
    found, named = _torn(split, studies, "patient_id"), dict(zip(studies["study_id"], studies["split"], strict=True))
    if found and not all(named[i] == part for part, ids in split.parts.items() for i in ids):
        what = f"patient {found[0]!r} has studies in two parts ({len(found)} such)"
        raise DataError(f"split: {what}, so a model would be tested on patients it was trained on; make a new split")


def group_ids(studies: Studies, by: str = "patient_id") -> list[str]:
    """Return the group of each study; one without a value is a group of its own."""
    return list(map(patient_or_study, studies[by], studies["study_id"]))


def _torn(split: Split, studies: Studies, by: str) -> list[str]:
    part_of = {study_id: name for name, ids in split.parts.items() for study_id in ids}
    return torn(group_ids(studies, by), map(part_of.get, studies["study_id"]))


def data_digest(studies: Studies, more: Sequence[str] = ()) -> str:
    """Return the hexadecimal SHA-256 of sorted (study_id, findings, impression, problems, and `more` columns)."""
    columns = (studies[name] for name in ("study_id", "findings", "impression", "problems", *more))
    return _sha256(sorted(zip(*columns), key=json.dumps))


def _sha256(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _check_fractions(fractions: Sequence[float]) -> None:
    with suppress(TypeError):  # of text, or one number
        if len(fractions) == 3 and min(fractions) >= 0 and math.isclose(sum(fractions), 1.0, abs_tol=1e-6):
            return
    given = tuple(fractions) if isinstance(fractions, (list, tuple)) else fractions
    raise ConfigError(f"fractions {given!r} must be three numbers, none below 0, of sum 1; give (0.8, 0.1, 0.1)")


def by_hash(groups: Sequence[str], fractions: Sequence[float]) -> list[str]:
    """Return the part of each study by the hash of its group, whatever other groups there are."""
    bounds = list(accumulate(fractions))[:-1]
    # 52 bits of a hash are a number in [0, 1) that a float holds exactly.
    numbers = (int(_sha256(group)[:13], 16) / 16**13 for group in groups)
    return [PARTS[bisect_right(bounds, number)] for number in numbers]


def _warn_of_published(split: Split, studies: Studies, by: str, fractions: Sequence[float] | None) -> None:
    if fractions is not None:
        what = f"fractions {tuple(fractions)} are not used: the data name a split of their own"
        warn_of_split(f"{what} (published=False ignores it)")
    if found := _torn(split, studies, by):
        many = f"{len(found)} of {len(set(group_ids(studies, by)))} values of {by}"
        what = f"the published split has {many} in more than one part, such as {found[0]!r}"
        advice = "scores on it are of patients that were trained on, too (published=False makes a split without them)"
        warn_of_split(f"{what}; {advice}")
