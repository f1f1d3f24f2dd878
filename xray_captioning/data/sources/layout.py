"""What the columns of a table of studies are called, and the studies that its rows make, several images or texts of one
together. A reader declares a `Layout` and calls `rows` and `make_studies`.
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xray_captioning import files, findings
from xray_captioning.data import table as tables
from xray_captioning.data.studies import SECTIONS, UNKNOWN, Study, named_part, named_view, text_or_none, unique_problems
from xray_captioning.data.table import Row, Table, column_key
from xray_captioning.errors import ConfigError, DataError
from xray_captioning.text.sections import literal, split_report

# Of a kind of table the names of its columns, by role, as columns.toml explains; a role without a name is not read.
Layout = Mapping[str, Any]
TEXTS = ("prior", *SECTIONS, "caption")  # a caption is a whole report, or a text that is neither section
ROLES = ("image", "study", "patient", "date", "split", "view", *TEXTS, "labels")
LAYOUTS: dict[str, Layout] = {}
for _name, _said in files.read_toml(__file__, "columns.toml").items():
    LAYOUTS[_name] = {**LAYOUTS.get(_said.pop("like", ""), {}), **_said}
USUAL = LAYOUTS["usual"]
# The column of each role that a user names; None if no column plays it, "" if none needs to.
Columns = Mapping[str, str | None]
NO_TEXTS = ("",) * len(TEXTS)
_KNOWN = {name.casefold() for name in (*findings.FINDINGS, findings.NO_FINDING)}


@dataclass(slots=True)
class StudyRow:
    """What one row of a table, or one file, says of a study; '' is what it does not say."""

    table: Table | None
    number: int | str  # of the row; without a table the place, for messages
    study: str
    images: Sequence[str] = ()
    view: str = ""
    patient: str = ""
    date: str = ""
    split: str | None = None
    texts: tuple[str, ...] = NO_TEXTS  # in the order of TEXTS
    mesh: str = ""
    problems: Sequence[str] = ()
    uncertain: Sequence[str] = ()

    @property
    def where(self) -> str:
        """The file and the row, for messages."""
        table = self.table
        return f"{table.path}, {table.unit} {self.number}" if table else str(self.number)


def used_columns(table: Table, layout: Layout, asked: Columns | None) -> dict[str, str]:
    """Return the column of every role that one plays; see `Table.column`."""
    # Where the user names a column of text no other is one; without images, or text or labels, it is a DataError.
    asked = asked or {}
    if unknown := [role for role in asked if role not in ROLES]:
        raise ConfigError(f"columns: {unknown[0]!r} is no role; choose among {', '.join(ROLES)}")
    found = {role: table.asked(role, name) for role, name in asked.items() if name}
    taken, no_texts = set(found.values()), TEXTS if found.keys() & set(TEXTS) else ()
    for role in (*ROLES, "mesh"):
        if asked.get(role, "") != "" or role in no_texts:
            continue
        names = layout.get(role, ())
        column = _split_column(table, *names) if role == "split" else table.column(role, *names)
        if column is not None and column not in taken:
            found[role] = column
    missing: dict[str, list[str]] = {}
    lacks = bool(layout.get("image")) and "image" not in found
    maybe = lacks and asked.get("image", "") == "" and "study" in found.keys() - asked.keys()
    first = next(iter(table), None) if maybe else None
    if first and tables.is_image_name(str(first[found["study"]])):  # as in {"a.png": "Clear lungs."}
        found["image"] = found.pop("study")
    elif lacks and ("image" not in asked or "study" not in found):
        missing |= {"study": layout["study"]} if "image" in asked else {"image": layout["image"]}
    told = [role for role in (*TEXTS, "labels") if layout.get(role)]
    if told and "coded" not in layout and not found.keys() & set(told):
        missing["caption"] = [*layout["caption"], *layout["findings"], *layout["impression"]]
    if missing:
        raise table.lacks(missing)
    if _counts_rows(table, found, asked):
        del found["study"]
    return found


def rows(
    table: Table, layout: Layout = USUAL, asked: Columns | None = None, part: str | None = None, folder: str = ""
) -> Iterator[StudyRow]:
    """Yield what each row of a table says, perhaps a `part` of a split; paths of images may begin with a `folder`."""
    labels = [name for name in findings.CHEXPERT[1:] if "coded" in layout and name in table.columns]
    get = used_columns(table, layout, asked).get
    image, study, patient, date, split, view = map(get, ROLES[:6])
    listed, mesh = get("labels"), get("mesh")
    text_columns = [*map(get, TEXTS)]
    for row in table:
        if not (study_id := row.text(study)) and study:
            raise DataError(f"{row.place}: the id in {study} is empty; fill it in or remove the row")
        yield StudyRow(
            table,
            row.number,
            study_id,
            tuple([folder + name for name in tables.image_names(row, image)]) if image else (),
            ";".join(map(str, names)) if isinstance(names := row.get(view or ""), list) else row.text(view),
            tables.id_text(row.text(patient)) if patient else "",
            row.text(date) if date else "",
            tables.part_of(row.text(split), part, f"{row.place}: {split}") if split else part,
            tuple([tables.joined_texts(row, column) if column else "" for column in text_columns]),
            row.text(mesh) if mesh else "",
            *(_problems(row, listed, layout, labels) if listed or labels else ((), ())),
        )


def _split_column(table: Table, strict: str = "", *loose: str) -> str | None:
    column = table.column("split", strict)
    for names in loose if column is None else ():
        if found := [c for c in table.named(*names.split("|")) if any(named_part(row.text(c)) for row in table)]:
            return table.only("split", found)
    return column


def _counts_rows(table: Table, columns: Mapping[str, str], asked: Columns) -> bool:
    """Whether a column 'id' counts texts: taken for studies, it would let an image be in two parts of a split."""
    study, image = columns.get("study"), columns.get("image")
    if study is None or column_key(study) not in ("uid", "id") or image is None or "study" in asked:
        return False
    ids: dict[str, str] = {}
    return any(ids.setdefault(str(row[image]), row.text(study)) != row.text(study) for row in table)


def _problems(row: Row, column: str | None, layout: Layout, labels: Sequence[str]) -> tuple[list[str], list[str]]:
    problems = _listed(row.text(column), layout.get("separator", "|")) if column else []
    values = [(name, _label_value(row, name)) for name in labels]
    return problems + [name for name, value in values if value == 1], [name for name, value in values if value == -1]


def _listed(text: str, sign: str) -> list[str]:
    """Return the labels of a field: joined by a layout's sign or, where that is usual, by ; or commas, or a list."""
    if sign != "|" or not re.search(r"[\[;,]", text):
        return text.split(sign)
    if isinstance(found := literal(text), list):
        return list(map(str, found))
    parts, alone = re.split("[|;]", text), [name.strip() for name in re.split("[|;,]", text)]
    return alone if {*map(str.casefold, alone)} <= _KNOWN else parts  # a term of MeSH may have a comma


def _label_value(row: Row, column: str) -> float | None:
    """Return 1 present, 0 absent or -1 uncertain; None where the field is empty."""
    text = row.text(column)
    if files.is_missing(text):
        return None
    with suppress(ValueError):
        if (value := float({"true": "1", "false": "0"}.get(text.lower(), text))) in (1, 0, -1):
            return value
    raise DataError(f"{row.place}: {column} is {text[:40]!r}; it must be 1, 0, -1 or empty")


def published(path: Path, *needed: str) -> Table:
    """Open a table of a collection, which has certain columns; their absence is a DataError."""
    table = Table(path)
    if missing := [name for name in needed if not table.named(name)]:
        raise DataError(f"{path}: lacks the column {missing[0]} of the published table; {table.found()}")
    return table


def once(found: Iterable[StudyRow]) -> Iterator[StudyRow]:
    """Yield rows of a collection that names each image once; a second time is a DataError."""
    images: set[str] = set()
    for row in found:
        if twice := images.intersection(row.images):
            raise DataError(f"{row.where}: names the image {min(twice)} again; keep one row")
        images.update(row.images)
        yield row


def make_studies(found: Iterable[StudyRow], find: Callable[[str], str]) -> list[Study]:
    """Return the studies that rows make, in order: rows of one id, or without ids of the same images, are one."""
    # `find` gives paths of images; the id of a study without one is the first's stem or, if others have it, its path.
    groups: dict[str, list[StudyRow]] = {}
    for row in found:
        groups.setdefault(row.study or "\0" + "\0".join(row.images), []).append(row)
    names = _names(groups)
    # Each group is dropped once it is a study: there may be very many.
    return [one_study(names.get(key, key), groups.pop(key), find) for key in list(groups)]


def _names(groups: Mapping[str, list[StudyRow]]) -> dict[str, str]:
    """Return the id of each group of rows that name none."""
    paths = {}
    for key, group in groups.items():
        if not group[0].study:
            path = group[0].images[0].replace("\\", "/")
            stem, suffix = os.path.splitext(path)
            paths[key] = path if suffix[1:].isdigit() else stem  # of an UID no suffix is a number
    stems = {key: path.rpartition("/")[2] for key, path in paths.items()}
    count = Counter(stems.values())
    return {key: stem if count[stem] == 1 else paths[key] for key, stem in stems.items()}


def one_study(study_id: str, group: list[StudyRow], find: Callable[[str], str]) -> Study:
    """Return the study that these rows make."""
    views: dict[str, str] = {}
    for row in group:
        for image, view in zip(row.images, _views(row)):
            views.setdefault(image, view)
    return Study(
        study_id,
        [find(image) for image in views],
        list(views.values()),
        **_sections(group),
        problems=(problems := unique_problems(p for row in group for p in row.problems)),
        uncertain=list(dict.fromkeys(u for r in group for u in r.uncertain if u not in problems)),
        mesh=text_or_none(next((row.mesh for row in group if row.mesh), None)),
        patient_id=_agreed(study_id, group, "patient") or "",
        date=next((row.date for row in group if row.date), ""),
        split=_agreed(study_id, group, "split"),
    )


def _views(row: StudyRow) -> list[str]:
    """Return the view of each image of a row; one for several is unknown."""
    if (count := len(row.images)) == 1:
        return [named_view(row.view)]
    several = [list(map(named_view, row.view.split(sign))) for sign in ";|,+&/" if sign in row.view]
    listed = re.match(r"[\[(]|.*[;|]", row.view)  # unlike "AP, supine", which is of all
    clear = [names for names in several if listed or UNKNOWN not in names]
    if clear and count not in map(len, clear):
        raise DataError(f"{row.where}: has {len(clear[0])} views of {count} images; write one for each")
    return next((names for names in clear if len(names) == count), [UNKNOWN] * count)


def _agreed(study_id: str, group: list[StudyRow], what: str) -> str | None:
    """Return the patient or the part that the rows of a study name, if they name one."""
    first = group[0]
    for row in group[1:]:
        value, other = getattr(first, what), getattr(row, what)
        if value and other and other != value:
            said = f"study {study_id!r} has {what} {value!r} in {first.where} and {other!r} here"
            raise DataError(f"{row.where}: {said}; keep one")
        first = first if value else row
    return getattr(first, what)


def _sections(group: list[StudyRow]) -> dict[str, Any]:
    """Return the SECTIONS of a study: from their own columns, or else from whole reports."""
    texts: Iterable[str] = group[0].texts
    if len(group) > 1:
        columns = zip(*(row.texts for row in group), strict=True)
        texts = (column[0] if len(set(column)) == 1 else tables.one_text(column, group[-1].where) for column in columns)
    found = {role: text_or_none(text) for role, text in zip(TEXTS, texts) if text}
    whole = found.pop("caption", None)
    return found if whole is None else whole_report(whole) | {role: text for role, text in found.items() if text}


def whole_report(text: str) -> dict[str, Any]:
    """Return the sections of a whole report; a text without headings is findings and impression."""
    found = split_report(text)
    return {name: getattr(found, name) for name in SECTIONS}
