"""NIH ChestX-ray14: images with labels, and short reports rendered from those labels.

The labels were extracted by a program from reports that are not public, and are noisy. A rendered
text contains what the labels contain and nothing else, and is marked so that nobody takes it for a
radiologist's.
Wang et al., "ChestX-ray8: Hospital-scale Chest X-ray Database and Benchmarks", CVPR 2017.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from xray_captioning.data.sources.layout import (
    Layout,
    StudyRow,
    make_studies,
    once,
    published,
    rows,
)
from xray_captioning.data.sources.lookup import ImageFinder
from xray_captioning.data.sources.source import Source
from xray_captioning.data.studies import Study
from xray_captioning.findings import NO_FINDING

if TYPE_CHECKING:
    import pandas as pd

STATEMENTS = {
    "Atelectasis": "There is atelectasis.",
    "Cardiomegaly": "The heart is enlarged.",
    "Consolidation": "There is a consolidation.",
    "Edema": "There is pulmonary edema.",
    "Effusion": "There is a pleural effusion.",
    "Emphysema": "The lungs are emphysematous.",
    "Fibrosis": "There is pulmonary fibrosis.",
    "Hernia": "There is a hiatal hernia.",
    "Infiltration": "There is a pulmonary infiltrate.",
    "Mass": "There is a lung mass.",
    "Nodule": "There is a lung nodule.",
    "Pleural_Thickening": "There is pleural thickening.",
    "Pneumonia": "There is pneumonia.",
    "Pneumothorax": "There is a pneumothorax.",
    "Enlarged Cardiomediastinum": "The cardiomediastinal silhouette is enlarged.",
    "Fracture": "There is a fracture.",
    "Lung Lesion": "There is a lung lesion.",
    "Lung Opacity": "There is a lung opacity.",
    "Pleural Other": "There is a pleural abnormality.",
    "Support Devices": "Support devices are in place.",
}
SAME = {"Pleural Effusion": "Effusion", "Hiatal Hernia": "Hernia"}  # as other collections say it
# Written where the label is absent, because nearly every report mentions these organs.
DENIALS = {
    "Cardiomegaly": "The heart size is normal.",
    "Effusion": "No pleural effusion.",
    "Pneumothorax": "No pneumothorax.",
}
NAMES = {
    "Effusion": "pleural effusion",
    "Hernia": "hiatal hernia",
    "Infiltration": "pulmonary infiltrate",
    "Mass": "lung mass",
    "Nodule": "lung nodule",
}

LAYOUT = Layout(
    image=("Image Index",), study=(), patient=("Patient ID",), split=(), labels=("Finding Labels",)
)


def read(path: Path, finder: ImageFinder) -> list[Study]:
    """Read a table of labels; there is no text.

    Each image is a study, with its stem as study_id; all views are frontal. Images may be .jpg
    where .png is named. `problems` are the labels as they are spelled; "No Finding" is an empty
    list.
    """
    return make_studies(once(_rows(path)), finder.find)


def _rows(path: Path) -> Iterator[StudyRow]:
    for row in rows(published(path, "Finding Labels", "Patient ID"), LAYOUT):
        row.problems = [label for label in row.problems if label.strip() != NO_FINDING]
        row.view = "frontal"
        yield row


SOURCE = Source("nih14", ("Data_Entry*.csv*", "sample_labels.csv*"), read)


def render_captions(studies: pd.DataFrame) -> pd.DataFrame:
    """Return studies with findings and impression written from labels where they have neither.

    An absent label counts as denied, which is more than the labels tell; an uncertain one is left
    out. Use the texts to try a
    captioner out, not to evaluate one. The rows that were filled have `rendered` set.
    """
    bare = studies["findings"].isna() & studies["impression"].isna()
    none: list[list[str]] = [[]] * len(studies)
    filled, uncertain = studies.copy(), studies.get("uncertain", none)
    for name, render in (("findings", _findings), ("impression", _impression)):
        filled[name] = [
            render(_named(problems), _named(unsure)) if fill else text
            for problems, unsure, fill, text in zip(
                studies["problems"], uncertain, bare, studies[name], strict=True
            )
        ]
        filled[name] = filled[name].astype(object)
    filled["rendered"] = studies["rendered"] | bare
    return filled


def _named(labels: list[str]) -> list[str]:
    return [SAME.get(label, label) for label in labels]


def _findings(labels: list[str], unsure: list[str]) -> str:
    stated = [STATEMENTS.get(label, f"There is {_name(label)}.") for label in labels]
    denied = [text for label, text in DENIALS.items() if label not in labels + unsure]
    return " ".join(stated + ([] if labels + unsure else ["The lungs are clear."]) + denied)


def _impression(labels: list[str], unsure: list[str]) -> str:
    if not labels and unsure:
        return "No definite abnormality."
    if not labels:
        return "No acute cardiopulmonary abnormality."
    *first, last = [_name(label) for label in labels]
    text = f"{', '.join(first)} and {last}" if first else last
    return f"{text[0].upper()}{text[1:]}."


def _name(label: str) -> str:
    return NAMES.get(label, label.replace("_", " ").lower())
