"""Labels of published collections under the names that are used here, and texts made of labels.

A label whose finding has no name here keeps its own: nothing that a collection codes is lost.
A rendered text contains what the labels contain and nothing else, and is marked so that nobody
takes it for a radiologist's. The papers of the collections are named in `published`: PadChest has
a hierarchy of 174 findings, VinDr-CXR 28 labels; CheXpert writes 1 present, 0 absent, -1 uncertain.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress

from xray_captioning.data.studies import Studies
from xray_captioning.data.table import Row
from xray_captioning.errors import DataError
from xray_captioning.files import is_missing, read_toml
from xray_captioning.findings import FINDINGS, NO_FINDING
from xray_captioning.text.sections import literal


def _names(collection: str) -> dict[str, str]:
    """Return the name here of each label of a collection, which is in lower case."""
    same = {name.lower(): name for name in (*FINDINGS, *_FILE.get(f"{collection}_own", []))}
    return same | {label: name for name, of in _FILE[collection].items() for label in of}


_FILE = read_toml(__file__, "labels.toml")
PADCHEST, VINDR = _names("padchest"), _names("vindr")
STATEMENTS, DENIALS, NAMES, SAME = (_FILE[n] for n in ("statements", "denials", "names", "same"))
# What PadChest says of a report or an image, not of the patient.
PADCHEST_NO_FINDING = ("normal", "unchanged", "exclude", "suboptimal study")


def named(labels: Iterable[str], names: Mapping[str, str], none: Iterable[str]) -> list[str]:
    """Return labels under the names used here, each once, without those that name no finding."""
    absent = {NO_FINDING.lower(), *none}
    stripped = [label.strip() for label in labels]
    kept = [label for label in stripped if label and label.lower() not in absent]
    return list(dict.fromkeys(names.get(label.lower(), label) for label in kept))


def listed(text: str, where: str) -> list[str]:
    """Return the labels of a field that holds a Python list of them; empty where it is empty."""
    if is_missing(text):
        return []
    labels = literal(text)
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise DataError(f"{where}: the labels are {text[:60]!r}, not a list such as ['nodule']; mend them")
    return labels


def label_value(row: Row, column: str) -> float | None:
    """Return 1 present, 0 absent or -1 uncertain; None where the field is empty."""
    text = row.text(column)
    if is_missing(text):
        return None
    with suppress(ValueError):
        value = float({"true": "1", "false": "0"}.get(text.lower(), text))
        if value in (1, 0, -1):
            return value
    raise DataError(f"{row.place}: {column} is {text[:40]!r}; it must be 1, 0, -1 or empty")


def render_captions(studies: Studies) -> Studies:
    """Return studies with findings and impression written from labels where they have neither, to try a captioner
    out, not to evaluate one: an absent label counts as denied, an uncertain one is left out.
    """
    bare = studies["findings"].isna() & studies["impression"].isna()
    filled, uncertain = studies.copy(), studies.get("uncertain", [()] * len(studies))
    labels = [
        tuple([SAME.get(label, label) for label in of] for of in row) for row in zip(studies["problems"], uncertain)
    ]
    for name, render in (("findings", _findings), ("impression", _impression)):
        rows = zip(labels, bare, studies[name])
        filled[name] = [render(*of) if fill else text for of, fill, text in rows]
        filled[name] = filled[name].astype(object)
    filled["rendered"] = studies["rendered"] | bare
    return filled


def _findings(labels: list[str], unsure: list[str]) -> str:
    stated = [STATEMENTS.get(label, f"There is {_spoken(label)}.") for label in labels]
    denied = [text for label, text in DENIALS.items() if label not in labels + unsure]
    return " ".join(stated + ([] if labels + unsure else ["The lungs are clear."]) + denied)


def _impression(labels: list[str], unsure: list[str]) -> str:
    if not labels:
        return f"No {'definite' if unsure else 'acute cardiopulmonary'} abnormality."
    *first, last = [_spoken(label) for label in labels]
    text = f"{', '.join(first)} and {last}" if first else last
    return f"{text[0].upper()}{text[1:]}."


def _spoken(label: str) -> str:
    return NAMES.get(label, label.replace("_", " ").lower())
