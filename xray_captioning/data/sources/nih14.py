"""NIH ChestX-ray14: images with labels, and short reports rendered from those labels.

The labels were extracted by a program from reports that are not public, and are noisy. A rendered
text contains what the labels contain and nothing else, and is marked so that nobody takes it for a
radiologist's.
Wang et al., "ChestX-ray8: Hospital-scale Chest X-ray Database and Benchmarks", CVPR 2017.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from xray_captioning.data.sources.labels import read_toml
from xray_captioning.data.sources.layout import (
    USUAL,
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

_TEXTS = read_toml("labels.toml")
STATEMENTS, DENIALS, NAMES, SAME = (_TEXTS[n] for n in ("statements", "denials", "names", "same"))

LAYOUT = replace(
    USUAL,
    image=("Image Index",),
    study=(),
    patient=("Patient ID",),
    split=(),
    labels=("Finding Labels",),
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
