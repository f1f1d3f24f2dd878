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

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping

from xray_captioning.data.table import Row
from xray_captioning.errors import DataError
from xray_captioning.files import is_missing
from xray_captioning.findings import CHEXPERT, FINDINGS, NO_FINDING

_DEVICES = (
    "pacemaker",
    "dual chamber device",
    "single chamber device",
    "dai",  # an implanted defibrillator
    "electrical device",
    "central venous catheter",
    "central venous catheter via subclavian vein",
    "central venous catheter via jugular vein",
    "central venous catheter via umbilical vein",
    "reservoir central venous catheter",
    "catheter",
    "nsg tube",
    "endotracheal tube",
    "tracheostomy tube",
    "chest drain tube",
    "ventriculoperitoneal drain tube",
    "gastrostomy tube",
    "artificial heart valve",
    "artificial mitral heart valve",
    "artificial aortic heart valve",
)
_SAME = {name.lower(): name for name in FINDINGS}
PADCHEST = _SAME | {
    "laminar atelectasis": "Atelectasis",
    "lobar atelectasis": "Atelectasis",
    "segmental atelectasis": "Atelectasis",
    "round atelectasis": "Atelectasis",
    "total atelectasis": "Atelectasis",
    "atelectasis basal": "Atelectasis",
    "pulmonary edema": "Edema",
    "atypical pneumonia": "Pneumonia",
    "nodule": "Lung Lesion",
    "multiple nodules": "Lung Lesion",
    "pulmonary mass": "Lung Lesion",
    "mass": "Lung Lesion",
    "mediastinal enlargement": "Enlarged Cardiomediastinum",
    "superior mediastinal enlargement": "Enlarged Cardiomediastinum",
    "infiltrates": "Lung Opacity",
    "alveolar pattern": "Lung Opacity",
    "interstitial pattern": "Lung Opacity",
    "ground glass pattern": "Lung Opacity",
    "reticular interstitial pattern": "Lung Opacity",
    "reticulonodular interstitial pattern": "Lung Opacity",
    "miliary opacities": "Lung Opacity",
    "increased density": "Lung Opacity",
    "loculated pleural effusion": "Pleural Effusion",
    "loculated fissural effusion": "Pleural Effusion",
    "hydropneumothorax": "Pneumothorax",
    "pleural thickening": "Pleural Other",
    "apical pleural thickening": "Pleural Other",
    "calcified pleural thickening": "Pleural Other",
    "pleural plaques": "Pleural Other",
    "calcified pleural plaques": "Pleural Other",
    "rib fracture": "Fracture",
    "callus rib fracture": "Fracture",
    "clavicle fracture": "Fracture",
    "humeral fracture": "Fracture",
    "vertebral fracture": "Fracture",
    "calcified granuloma": "Granuloma",
    **dict.fromkeys(_DEVICES, "Support Devices"),
}
# What PadChest says of a report or an image, not of the patient.
PADCHEST_NO_FINDING = ("normal", "unchanged", "exclude", "suboptimal study")

_VINDR_OWN = (
    *("Aortic enlargement", "Calcification", "Enlarged PA", "ILD", "Lung cavity", "Lung cyst"),
    *("Mediastinal shift", "Pulmonary fibrosis", "Other lesion", "COPD", "Tuberculosis"),
    *("Other disease", "Other diseases"),
)
VINDR = {name.lower(): name for name in (*FINDINGS, *_VINDR_OWN)} | {
    "nodule/mass": "Lung Lesion",
    "lung tumor": "Lung Lesion",
    "clavicle fracture": "Fracture",
    "rib fracture": "Fracture",
    "pleural thickening": "Pleural Other",
    "infiltration": "Lung Opacity",
}


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
    try:
        labels = ast.literal_eval(text)
        if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            raise ValueError
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        raise DataError(
            f"{where}: the labels are {text[:60]!r} where a list such as ['nodule'] is expected; "
            "mend them"
        ) from None
    return labels


def coded(row: Row) -> dict[str, list[str]]:
    """Return what CheXpert's columns say, as `Study` takes it: what is there, and what may be."""
    values = {name: label_value(row, name) for name in CHEXPERT[1:] if row.get(name)}
    return {
        "problems": [name for name, value in values.items() if value == 1],
        "uncertain": [name for name, value in values.items() if value == -1],
    }


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
