"""Which study a text is of: by the study's id as others write it, or by one of its images."""

import re
import warnings
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, Self

from xray_captioning.data import feature_files, opening
from xray_captioning.data.records import unlisted
from xray_captioning.data.studies import Studies as Table
from xray_captioning.errors import DataError
from xray_captioning.evaluation import caption_files, result_columns, table
from xray_captioning.evaluation.caption_files import TextColumn, Texts, checked_text
from xray_captioning.metrics import ngrams
from xray_captioning.metrics.ngrams import kept_texts
from xray_captioning.text.sections import has_headings, split_report

Names = Sequence[str]
_OTHER = -1  # for all studies that are not evaluated
_SUFFIXES = {*opening.IMAGE_SUFFIXES, ".txt", ".xml", ".gz", ".nii"}
_LATER = re.compile(r"(?:study|cxr|s)?[ _-]*0*(\d+?)(?:\.0+)?(?:_im-.*)?")


class ResultsWarning(UserWarning):
    """Something about others' results that does not stop an evaluation, but has to be known."""


_warn = partial(warnings.warn, category=ResultsWarning, stacklevel=2)


@dataclass
class Studies:
    """The evaluated studies, and what else is known of the data."""

    ids: list[str]
    images: list[list[str]] = field(default_factory=list)  # of each
    others: frozenset[str] = frozenset()  # ids of the studies of the data that are not evaluated
    other_images: list[list[str]] = field(default_factory=list)

    @classmethod
    def of(cls, evaluated: Table, data: Table) -> Self:
        """Return those of two tables of studies, the first a part of the second."""
        rest = data[~data["study_id"].isin(evaluated["study_id"])]
        ids, others = list(evaluated["study_id"]), frozenset(rest["study_id"])
        return cls(ids, list(evaluated["images"]), others, list(rest["images"]))

    def rows(self, values: Sequence[Any]) -> list[int | None]:
        """Return the number of the study that each value names, None where it names none."""
        # Ids are taken as they stand where that finds most studies; else as others write them (``7`` for ``007``,
        # ``7.0``, ``s7``, ``CXR7``, a path that ends in it); else as paths of images.
        exact = {study: row for row, study in enumerate(self.ids)}.get
        best = [row if (row := exact(str(v))) is not None else exact(_name(v)) for v in values]
        for find in (exact, lambda value: self._usual.get(later_id(value)), self._image):
            if named(best) == len(self.ids):
                break
            found = [_first(find, value) for value in values]
            best = found if named(found) > named(best) else best
        return best

    def is_other(self, value: Any) -> bool:
        """Whether a value names a study of the data that is not evaluated."""
        return any(later_id(one) in self._other_ids or self._image(str(one)) == _OTHER for one in _each(value))

    @cached_property
    def _other_ids(self) -> frozenset[str]:
        return frozenset(map(later_id, self.others))

    @cached_property
    def _usual(self) -> dict[str, int | None]:
        found = _unambiguous((later_id(study), row) for row, study in enumerate(self.ids))
        return found | dict.fromkeys(found.keys() & self._other_ids)

    @cached_property
    def _images(self) -> dict[tuple[str, ...], int | None]:
        rows = [*enumerate(self.images), *((_OTHER, paths) for paths in self.other_images)]
        known = ((parts, row) for row, paths in rows for parts in {_parts(path) for path in paths})
        return _unambiguous((parts[start:], row) for parts, row in known for start in range(len(parts)))

    def _image(self, value: str) -> int | None:
        """Find an image by the longest end of its path, which only images of one study may have."""
        parts = _parts(value)
        ends = (parts[start:] for start in range(len(parts)))
        return next((self._images[end] for end in ends if end in self._images), None)


def features_of(given: Any, studies: Table) -> feature_files.StudyFeatures | None:
    """Open features, if any, and match their rows as `Studies.rows`; two of one study, or none, are a DataError."""
    if given is None:
        return None
    features, ids = feature_files.open_features(given), list(studies["study_id"])
    rows = Studies(ids, list(studies["images"])).rows(features.ids)
    names = [name if row is None else ids[row] for name, row in zip(features.ids, rows)]
    if twice := [name for name, times in Counter(names).items() if times > 1]:
        what = f"has {len(twice)} studies twice, such as {', '.join(twice[:3])}"
        raise DataError(f"{features.source}: {what}; keep one row of each")
    if not (known := {name: place for place, name in enumerate(names) if rows[place] is not None}):
        what = f"none of its {len(rows)} ids, such as {', '.join(features.ids[:3])}, is that of a study"
        raise DataError(f"{features.source}: {what}; the data has {', '.join(ids[:3])} and so on")
    return replace(features, places=known)


def later_id(value: Any) -> str:
    """Return an id without what programs add: folders, suffix, letters before it, zeros, ``.0``."""
    name = ("", *_parts(str(value)))[-1]
    found = _LATER.fullmatch(name)
    return found[1] if found else name


def _parts(path: str) -> tuple[str, ...]:
    """Return a path in lower case without the suffix of a file, part by part."""
    if not (parts := PurePosixPath(path.strip().lower().replace("\\", "/")).parts):
        return ()
    name = PurePosixPath(parts[-1])
    while name.suffix in _SUFFIXES:
        name = name.with_suffix("")
    return (*(part for part in parts[:-1] if part not in ("/", "..")), name.name)


def _unambiguous(pairs: Iterable[tuple[Any, int]]) -> dict[Any, int | None]:
    """Return a dictionary of what means one study, None for what means several."""
    found: dict[Any, int | None] = {}
    for key, row in pairs:
        found[key] = row if found.get(key, row) == row else None
    return found


def _each(value: Any) -> Sequence[Any]:
    """Return what a cell names: itself, or the items of a list, which may be written as text."""
    if isinstance(value := unlisted(value), list | tuple):
        return value
    text = str(value)
    if text.startswith("[") and text.endswith("]"):  # of numbers, or without quotes
        return [item.strip(" '\"") for item in text[1:-1].split(",")]
    return [text]


def _name(value: Any) -> str:
    """Return what a cell names as one text, however a list of images is written."""
    return ", ".join(map(str, _each(value)))


def _first(find: Callable[[str], int | None], value: Any) -> int | None:
    return next((row for one in _each(value) if (row := find(str(one))) not in (None, _OTHER)), None)


def named(rows: Iterable[Hashable]) -> int:
    """Return how many different studies rows name."""
    return len(set(rows) - {None})


def by_row(system: str, given: Texts, studies: Studies) -> dict[int, int]:
    """Return the places of a system's texts by the number of their study, or a DataError where none is sure."""
    written = _as_written(system, given)
    place = f"{written.source}: system {system}" if written.source else f"system {system}"
    if not written.ids:
        if len(written.texts) != len(studies.ids):
            what = f"{len(written.texts)} texts without a study_id, but {len(studies.ids)} studies are evaluated"
            raise DataError(f"{place} has {what}; give one for each, in the order of the data, or name their studies")
        return {place: place for place in range(len(written.texts))}
    column, rows, number = best_column(written, studies)
    values = written.ids[column]
    # Two texts of one study are refused, whether it is evaluated or not.
    keys = [str(value) if row is None else row for value, row in zip(values, rows)]
    if len(set(keys)) < len(keys):
        times = Counter(keys)
        twice = [value for value, key in zip(values, keys) if times[key] > 1]
        raise DataError(f"{place} names a study twice, the second time as {column} {twice[-1]}; keep one text of it")
    if written.texts and not number:
        shown = ", ".join(f"{name} {values[0]}" for name, values in written.ids.items() if values)
        what = f"no id is that of an evaluated study or image ({shown or 'none'}; the data has {studies.ids[0]})"
        raise DataError(f"{place}: {what}; give the study ids of the data in a column study_id")
    if unknown := [v for v, row in zip(values, rows) if row is None and not studies.is_other(v)]:
        said = f"{system}: {len(unknown)} of {len(rows)} texts are of no study of the data and are left out"
        _warn(f"{said}, such as that of {unknown[0]}")
    return {row: place for place, row in enumerate(rows) if row is not None}


def in_order(system: str, given: Texts, studies: Studies, found: Mapping[int, int] | None = None) -> Sequence[str]:
    """Return a system's texts in the order of the studies, or of those `found`; one without a text is a DataError."""
    given = _as_written(system, given)
    rows = range(len(studies.ids)) if found is None else sorted(found)
    found = by_row(system, given, studies) if found is None else found
    if missing := [studies.ids[row] for row in rows if row not in found]:
        what = f"study {missing[0]} ({len(missing)} of {len(studies.ids)} evaluated studies are missing)"
        advice = "or evaluate only those that every system has a text for: --only-common (only_common=True)"
        raise DataError(f"system {system} has no text for {what}; give one for each, {advice}")
    texts = kept_texts((given.texts[found[row]] for row in rows), len(rows))
    if empty := [studies.ids[row] for row, text in zip(rows, texts) if not text.strip()]:
        _warn(f"{system}: {len(empty)} of {len(texts)} texts are empty and count as such, the first that of {empty[0]}")
    return texts


def scored_section(system: str, texts: Sequence[str], section: str) -> Sequence[str]:
    """Return the section of texts that are whole reports, and say so; others are as they stand."""
    if section not in ("findings", "impression"):
        return texts
    cut = kept_texts((getattr(split_report(text), section) or text for text in texts), len(texts))
    if whole := sum(map(has_headings, texts)):
        _warn(f"{system}: {whole} of {len(texts)} texts have headings; their {section} is scored")
    return cut


def common_rows(texts: Mapping[str, Sequence[Texts]], studies: Studies) -> list[int]:
    """Return the numbers of the studies that every run of every system has a text for."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResultsWarning)  # said again when the texts are taken
        found = [by_row(name, run, studies).keys() for name, runs in texts.items() for run in runs]
    if not (common := set(range(len(studies.ids))).intersection(*found)):
        raise DataError("no study has a text of every system; evaluate the systems one by one")
    return sorted(common)


def _as_written(system: str, given: Texts) -> TextColumn:
    if isinstance(given, TextColumn):
        return given
    if isinstance(given, Mapping):
        texts = [checked_text(t, f"system {system}, study", key) for key, t in given.items()]
        return TextColumn(texts, {"id": list(given)})
    return TextColumn([checked_text(t, f"system {system}, text", n) for n, t in enumerate(given, 1)])


def best_column(written: TextColumn, studies: Studies) -> tuple[str, list[int | None], int]:
    """Return the first column that names most studies, the studies, and how many they are."""
    best: tuple[str, list[int | None], int] = "", [], -1
    for name, values in written.ids.items():
        rows = studies.rows(values)
        if (number := named(rows)) > best[2]:
            best = name, rows, number
        if number == len(studies.ids):
            break
    return best


class Pairs(NamedTuple):
    """What a system wrote beside the reports of the same studies."""

    system: str
    references: list[list[str]]  # one or more a study
    hypotheses: Sequence[str]
    counts: dict[str, int]  # ``n`` and, where only common studies were asked for, ``left_out``


def read_systems(file: Path, asked: Sequence[str], known: TextColumn | None = None) -> dict[str, TextColumn]:
    """Read systems' texts; warn of columns of texts that are neither a system's nor the reports that are `known`."""
    found = caption_files.read_captions(file, asked)
    others = known.left_out if known and known.source == str(file) else None
    for name, texts in found.items():
        if left := ", ".join(n for n in texts.left_out if others is None or n in others):
            said = f"{file}: the system's texts are those of {name}; {left} not evaluated"
            _warn(f"{said} (--prediction names other columns)")
    return found


def check_asked(asked: Sequence[str], read: Iterable[Any]) -> None:
    """Refuse columns that were asked for and that none of the files has which were `read`."""
    columns = {texts.source: texts.columns for texts in read if isinstance(texts, TextColumn)}
    there = dict.fromkeys(chain.from_iterable(columns.values()))
    if columns and (lost := [name for name in asked if name not in there]):
        what = f"has no column {', '.join(lost)}; its columns are: {result_columns.named(there)}"
        raise DataError(f"{' and '.join(columns)}: {what}")


def read_pairs(
    reports: Path, captions: Path, reference: str | None = None, prediction: Names = (), only_common: bool = False
) -> Iterator[Pairs]:
    """Yield each system of a file beside the reports of another, or of the same, those with both if `only_common`."""
    # `reference` and `prediction` name the columns. Texts are matched by id where both have ids (several reports of one
    # id are its references), else by order.
    known = caption_files.read_references(reports, reference)
    systems = read_systems(captions, prediction, known)
    check_asked(prediction, systems.values())
    for system, written in systems.items():
        pairs = _paired(system, written, known, only_common)
        headed = sum(map(has_headings, pairs.hypotheses))
        if headed and not any(has_headings(text) for texts in pairs.references for text in texts):
            _warn(f"{system}: {headed} texts have headings, which count as words; no report has")
        yield pairs


def _paired(system: str, written: TextColumn, known: TextColumn, only_common: bool) -> Pairs:
    if known.ids and written.ids:
        found = [_grouped(values, known.texts) for values in known.ids.values()]
        studies, texts = max(found, key=lambda grouped: best_column(written, grouped[0])[2])
    else:
        numbers = [f"text {number}" for number in range(1, len(known.texts) + 1)]
        (studies, texts), only_common = _grouped(numbers, known.texts), False
        if known.ids or written.ids:
            without = written.source if known.ids else known.source
            _warn(f"{without} names no study: texts are compared in the order of the files", stacklevel=3)
        written = replace(written, ids={})
    common = by_row(system, written, studies) if only_common else None
    hypotheses = in_order(system, written, studies, common)
    rows = range(len(texts)) if common is None else sorted(common)
    left_out = {} if common is None else {table.LEFT_OUT: len(texts) - len(rows)}
    texts = [texts[row] for row in rows]
    if said := ngrams.empty_references([studies.ids[row] for row in rows], texts):
        _warn(f"{system}: {said}")
    return Pairs(system, texts, hypotheses, {"n": len(rows), **left_out})


def _grouped(ids: Sequence[object], texts: Sequence[str | list[str]]) -> tuple[Studies, list[list[str]]]:
    """Return the different studies, called by an id or by a list of images, and the different texts of each."""
    found: dict[str, dict[str, None]] = {}
    images: dict[str, list[str]] = {}
    for study, text in zip(ids, texts):
        images.setdefault(name := ", ".join(shown := list(map(str, _each(study)))), shown)
        found.setdefault(name, {}).update(dict.fromkeys(text if isinstance(text, list) else [text]))
    return Studies(list(found), list(images.values())), list(map(list, found.values()))
