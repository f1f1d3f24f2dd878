"""Synthetic two-view chest studies with known findings, written in the Kaggle layout.

The phantoms are schematic radiographs drawn from lines and ellipses, not patients. As on every
radiograph the patient's right is on the left of the frontal image (an L marks the patient's left);
on the lateral image the patient looks to the left. `Problems` in the reports table is the truth,
`MeSH` holds it with side, place and size.
"""

import csv
import os
from collections.abc import Iterable
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
from xray_captioning.phantom.reports import report
from xray_captioning.phantom.study import TABLES, PhantomStudy, sample_study

FIRST_UID = 900001  # far above the uids of the Indiana University collection
SMALLEST = 32
MOST_WORKERS, STUDIES_A_WORKER = 4, 100
_Image = npt.NDArray[np.uint8]
_Row = tuple[object, ...]


def render(study: PhantomStudy, size: int = 224) -> tuple[_Image, _Image]:
    """Draw both views of a study as grey images (size, size), uint8, the frontal one first.

    The lateral view is drawn even if `study.lateral` is False. A size of less than 32 pixels is a
    ConfigError.
    """
    opencv()  # the two below import it when they are
    from xray_captioning.phantom.frontal import draw_frontal
    from xray_captioning.phantom.lateral import draw_lateral

    if size < SMALLEST:
        raise ConfigError(f"phantom image size is {size}: choose at least {SMALLEST} pixels")
    return draw_frontal(study, size), draw_lateral(study, size)


def write_phantoms(out: Path, studies: int = 400, seed: int = 0, size: int = 224) -> Path:
    """Write a folder of synthetic studies in the Kaggle layout, whole or not at all.

    Study `i` depends on `seed` and `i` alone: a larger folder begins with the same studies.

    Parameters
    ----------
    out : Path
        Folder to make; it may exist if it is empty.
    studies, seed : int
        How many, at least 1; not negative.
    size : int
        Width and height of the images in pixels, at least 32.

    Returns
    -------
    Path
        `out`, with ``indiana_reports.csv``, ``indiana_projections.csv``,
        ``images/images_normalized/*.png`` and ``README.txt``.

    Raises
    ------
    ConfigError, DataError
        If a number is out of range, or `out` is a file or a folder that is not empty.
    """
    limits = (("studies", studies, 1), ("seed", seed, 0), ("size", size, SMALLEST))
    for name, value, least in limits:
        if value < least:
            raise ConfigError(f"phantom {name} is {value}: choose at least {least}")
    with new_folder(Path(out)) as folder:
        images = folder / "images" / "images_normalized"
        images.mkdir(parents=True)
        reports, projections = zip(*_write_studies(images, studies, seed, size))
        _write_table(folder / "indiana_reports.csv", ("uid", "MeSH", "Problems", "image", *SECTIONS), reports)
        _write_table(folder / "indiana_projections.csv", ("uid", "filename", "projection"), chain(*projections))
        text = TABLES["readme"].format(studies=studies, seed=seed, size=size)
        (folder / "README.txt").write_text(f"{PHANTOM_README}\n\n{text}", encoding="utf-8")
    return out


def _write_studies(images: Path, studies: int, seed: int, size: int) -> Any:
    """Yield what `write_study` returns of each study; several processes draw many of them."""
    from joblib import Parallel, delayed

    opencv()  # or what to install
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    workers = max(1, min(cores or 1, MOST_WORKERS, studies // STUDIES_A_WORKER))
    # Not forked, as that can hang after TensorFlow has started, and without the caller's script.
    run = Parallel(workers, backend="loky", return_as="generator")
    written = run(delayed(write_study)(images, seed, index, size) for index in range(studies))
    yield from progress(written, "phantoms", total=studies, unit="study")


def write_study(images: Path, seed: int, index: int, size: int) -> tuple[_Row, list[_Row]]:
    """Draw and write the images of a study; return its rows of both tables."""
    rng = np.random.default_rng([seed, index])
    study, uid = sample_study(rng), FIRST_UID + index
    views = [("Frontal", "1001"), ("Lateral", "2001")][: 1 + study.lateral]
    names = [f"{uid}_IM-0001-{number}.dcm.png" for _, number in views]
    _write_images(images, dict(zip(names, render(study, size))))
    mesh = ";".join(finding.detail for finding in study.findings) or "normal"
    problems = ";".join(finding.name for finding in study.findings) or "normal"
    texts = report(study, rng)
    about = (uid, mesh, problems, "Synthetic chest PA and lateral", *(texts[name] for name in SECTIONS))
    return about, [(uid, name, view) for name, (view, _) in zip(names, views)]


def _write_images(folder: Path, views: dict[str, _Image]) -> None:
    cv2 = opencv()
    # Film grain hardly compresses: storing it takes a third more space and a sixth of the time.
    flags = [cv2.IMWRITE_PNG_COMPRESSION, 0]
    if hasattr(cv2, "IMWRITE_PNG_FILTER"):  # OpenCV 4.11; older ones try every filter
        flags += [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE]
    for name, image in views.items():
        (folder / name).write_bytes(cv2.imencode(".png", image, flags)[1].tobytes())


def _write_table(path: Path, header: _Row, rows: Iterable[_Row]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])
