"""Synthetic two-view chest studies with known findings, drawn from lines and ellipses, in the Kaggle layout: `Problems`
in the reports table is the truth, `MeSH` holds it with side, place and size. The patient's right is on the left of the
frontal image (an L marks the left); on the lateral image the patient looks to the left.
"""

import csv
import json
from collections.abc import Iterator
from datetime import date
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from xray_captioning.data.provenance import PHANTOM_README
from xray_captioning.data.resizing import opencv
from xray_captioning.data.studies import SECTIONS
from xray_captioning.errors import ConfigError
from xray_captioning.files import new_folder, progress
from xray_captioning.phantom.hard import share_of, study_at
from xray_captioning.phantom.studies import TABLES, PhantomStudy
from xray_captioning.phantom.wording import report

FIRST_UID = 900001  # far above the uids of the Indiana University collection
FIRST_DAY = 736_695  # of the proleptic calendar; each study is taken a day after the last
SERIES = ("patient_id", "study_date")
SMALLEST = 32
MOST_WORKERS, STUDIES_A_WORKER = 4, 100
_Image = npt.NDArray[np.uint8]
_Row = tuple[object, ...]


def render(study: PhantomStudy, size: int = 224) -> tuple[_Image, _Image]:
    """Draw both views, also a lateral one not in the study, (size, size) uint8; below 32 pixels it is a ConfigError."""
    (frontal, _), (lateral, _) = draw(study, size)
    return frontal, lateral


def draw(study: PhantomStudy, size: int) -> Iterator[tuple[_Image, list[Any]]]:
    """`render`, and beside each image its findings with their outlines (n, 2), in shares of width and height."""
    opencv()  # the two below import it when they are
    from xray_captioning.phantom.frontal import draw_frontal
    from xray_captioning.phantom.lateral import draw_lateral

    if size < SMALLEST:
        raise ConfigError(f"phantom image size is {size}: choose at least {SMALLEST} pixels")
    yield draw_frontal(study, size)
    yield draw_lateral(study, size)


def write_phantoms(
    out: Path, studies: int = 400, seed: int = 0, size: int = 224, difficulty: float | str = 0.0
) -> Path:
    """Write a folder of synthetic studies in the Kaggle layout, whole or not at all. Study `i` depends on `seed`, `i`
    and `difficulty` alone: a larger folder begins with the same studies.

    Parameters
    ----------
    out : Path
        Folder to make; it may exist if it is empty. It is returned.
    studies, seed : int
        How many, at least 1; not negative.
    size : int
        Width and height of the images in pixels, at least 32.
    difficulty : float or str
        From 0, or "easy", to 1, or "hard": the same studies with fainter, overlapping and more findings, shadows that
        are none, portable films, scatter and noise, rarer words, and some of one patient after the other:
        ``indiana_reports.csv`` then has the columns ``patient_id`` and ``study_date``, too.

    Raises
    ------
    ConfigError, DataError
        If a number is out of range, or `out` is a file or a folder that is not empty.

    Notes
    -----
    Beside the tables lies ``regions.json``, a list with a row for each outline of a finding, ``{"study", "finding",
    "side", "image", "polygon": [[x, y], ...]}`` with x and y in shares of width and height; a finding may have several.
    """
    for name, value, least in (("studies", studies, 1), ("seed", seed, 0), ("size", size, SMALLEST)):
        if value < least:
            raise ConfigError(f"phantom {name} is {value}: choose at least {least}")
    difficulty = share_of(difficulty)
    with new_folder(Path(out)) as folder:
        images = folder / "images" / "images_normalized"
        images.mkdir(parents=True)
        reports, projections, regions = zip(*_write_studies(images, studies, seed, size, difficulty))
        tables = {
            "reports": [("uid", "MeSH", "Problems", "image", *SECTIONS, *(SERIES if difficulty else ())), *reports],
            "projections": [("uid", "filename", "projection"), *chain(*projections)],
        }
        for name, rows in tables.items():
            with (folder / f"indiana_{name}.csv").open("w", encoding="utf-8", newline="") as file:
                csv.writer(file, lineterminator="\n").writerows(rows)
        outlines = ",\n".join(map(json.dumps, chain(*regions)))
        (folder / "regions.json").write_text(f"[\n{outlines}\n]\n", encoding="utf-8")
        text = TABLES["readme"].format(studies=studies, seed=seed, size=size)
        (folder / "README.txt").write_text(f"{PHANTOM_README}\n\n{text}", encoding="utf-8")
    return Path(out)


def _write_studies(images: Path, studies: int, seed: int, size: int, difficulty: float) -> Any:
    """Yield what `write_study` returns of each study; several processes draw many of them."""
    from joblib import Parallel, cpu_count, delayed

    opencv()  # or what to install
    workers = max(1, min(cpu_count(), MOST_WORKERS, studies // STUDIES_A_WORKER))
    # Not forked, as that can hang after TensorFlow has started, and without the caller's script.
    run = Parallel(workers, backend="loky", return_as="generator")
    written = run(delayed(write_study)(images, seed, index, size, difficulty) for index in range(studies))
    yield from progress(written, "phantoms", total=studies, unit="study")


def write_study(
    images: Path, seed: int, index: int, size: int, difficulty: float = 0.0
) -> tuple[_Row, list[_Row], list[dict[str, Any]]]:
    """Draw and write the images of a study; return its rows of both tables and of the outlines."""
    study, rng = study_at(seed, index, difficulty)
    uid, bed = FIRST_UID + index, study.scene.portable
    how = " AP portable" if bed else " PA" if difficulty else ""
    views = [("Frontal" + how, "1001"), ("Lateral", "2001")][: 1 + study.lateral]
    names = [f"{uid}_IM-0001-{number}.dcm.png" for _, number in views]
    drawn = list(zip(names, draw(study, size)))
    _write_images(images, {name: image for name, (image, _) in drawn})
    regions = [
        {"study": str(uid), "finding": f.name, "side": f.side, "image": name, "polygon": o.clip(0, 1).round(3).tolist()}
        for name, (_, found) in drawn
        for f, o in found
    ]
    mesh = ";".join(finding.detail for finding in study.findings) or "normal"
    problems = ";".join(dict.fromkeys(finding.name for finding in study.findings)) or "normal"
    texts, what = report(study, rng), "portable AP" if bed else "PA and lateral"
    about: _Row = (uid, mesh, problems, f"Synthetic chest {what}", *(texts[name] for name in SECTIONS))
    if difficulty:
        about += (FIRST_UID + study.patient, date.fromordinal(FIRST_DAY + index).isoformat())
    return about, [(uid, name, view) for name, (view, _) in zip(names, views)], regions


def _write_images(folder: Path, views: dict[str, _Image]) -> None:
    cv2 = opencv()
    # Film grain hardly compresses: storing it takes a third more space and a sixth of the time.
    flags = [cv2.IMWRITE_PNG_COMPRESSION, 0]
    if hasattr(cv2, "IMWRITE_PNG_FILTER"):  # OpenCV 4.11; older ones try every filter
        flags += [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE]
    for name, image in views.items():
        (folder / name).write_bytes(cv2.imencode(".png", image, flags)[1].tobytes())
