"""Labels of published collections under the names that are used here.

A label whose finding has no name here keeps its own: nothing that a collection codes is lost.

References
----------
.. [1] Bustos et al., "PadChest: A large chest x-ray image dataset with multi-label annotated
   reports", Medical Image Analysis 66, 2020: a hierarchy of 174 findings.
.. [2] Nguyen et al., "VinDr-CXR: An open dataset of chest X-rays with radiologist's annotations",
   Scientific Data 9, 2022: 28 labels.
.. [3] Irvin et al., "CheXpert", AAAI 2019: 1 present, 0 absent, -1 uncertain, blank not mentioned.
"""

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from xray_captioning.data.table import Row
from xray_captioning.errors import DataError
from xray_captioning.files import is_missing
from xray_captioning.findings import FINDINGS, NO_FINDING
from xray_captioning.text.sections import literal


def read_toml(name: str) -> dict[str, Any]:
    """Read a file of names that lies beside this one."""
    return tomllib.loads(Path(__file__).with_name(name).read_text("utf-8"))


def _names(collection: str) -> dict[str, str]:
    """Return the name here of each label of a collection, which is in lower case."""
    same = {name.lower(): name for name in (*FINDINGS, *_FILE.get(f"{collection}_own", []))}
    return same | {label: name for name, of in _FILE[collection].items() for label in of}


_FILE = read_toml("labels.toml")
PADCHEST, VINDR = _names("padchest"), _names("vindr")
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
        raise DataError(
            f"{where}: the labels are {text[:60]!r} where a list such as ['nodule'] is expected; "
            "mend them"
        )
    return labels


def label_value(row: Row, column: str) -> float | None:
    """Return 1 present, 0 absent or -1 uncertain; None where the field is empty.

    Raises
    ------
    DataError
        If the field says anything else.
    """
    text = row.text(column)
    if is_missing(text):
        return None
    try:
        value = float({"true": "1", "false": "0"}.get(text.lower(), text))
    except ValueError:
        value = 2.0
    if value not in (1, 0, -1):
        raise DataError(f"{row.place}: {column} is {text[:40]!r}; it must be 1, 0, -1 or empty")
    return value
