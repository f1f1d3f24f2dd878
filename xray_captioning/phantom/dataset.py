"""Synthetic two-view chest studies with known findings, written in the Kaggle layout.

The phantoms are schematic radiographs drawn from lines and ellipses, not patients. As on every
radiograph the patient's right is on the left of the frontal image (an L marks the patient's left);
on the lateral image the patient looks to the left. `Problems` in the reports table is the truth,
`MeSH` holds it with side, place and size.
"""

import csv
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from xray_captioning.data.provenance import PHANTOM_README
from xray_captioning.data.resizing import opencv
from xray_captioning.data.studies import SECTIONS
from xray_captioning.errors import ConfigError, DataError
from xray_captioning.files import new_folder
from xray_captioning.phantom.reports import report
from xray_captioning.phantom.study import TABLES, PhantomStudy, sample_study
from xray_captioning.progress import progress

FIRST_UID = 900001  # far above the uids of the Indiana University collection
SMALLEST = 32
MOST_WORKERS, STUDIES_A_WORKER = 4, 100
_Image = npt.NDArray[np.uint8]
_Rows = list[tuple[object, ...]]


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
        reports, projections = _write_studies(images, studies, seed, size)
        _write_table(folder / "indiana_reports.csv", reports)
        _write_table(folder / "indiana_projections.csv", projections)
        text = TABLES["readme"].format(studies=studies, seed=seed, size=size)
        (folder / "README.txt").write_text(f"{PHANTOM_README}\n\n{text}", encoding="utf-8")
    return out


def _write_studies(images: Path, studies: int, seed: int, size: int) -> tuple[_Rows, _Rows]:
    """Write the images of all studies and return the rows of both tables, their heads first."""
    with _helpers_drawing(images, studies, seed, size) as workers:
        draw_share(images, studies, seed, size, 0, workers)
    reports: _Rows = [("uid", "MeSH", "Problems", "image", *SECTIONS)]
    projections: _Rows = [("uid", "filename", "projection")]
    for index in range(studies):
        uid, study, rng = _sampled(seed, index)
        text = report(study, rng)
        mesh = ";".join(finding.detail for finding in study.findings) or "normal"
        problems = ";".join(finding.name for finding in study.findings) or "normal"
        texts = (getattr(text, section) for section in SECTIONS)
        reports.append((uid, mesh, problems, "Synthetic chest PA and lateral", *texts))
        projections += [(uid, name, view) for name, view in _names(uid, study).items()]
    return reports, projections


def draw_share(images: Path, studies: int, seed: int, size: int, worker: int, workers: int) -> None:
    """Draw and write every `workers`-th study from number `worker` on: one thread draws while
    another compresses and writes the study before, as short steps would wait for Python's lock.
    """
    bar = progress(total=studies, desc="phantoms", unit="study", disable=bool(worker))
    cv2 = opencv()
    threads = cv2.getNumThreads()
    with ExitStack() as stack, bar, ThreadPoolExecutor(1) as writer:
        stack.callback(cv2.setNumThreads, threads)
        cv2.setNumThreads(1)  # or its threads would take the core of the one that writes
        writing: Future[None] = writer.submit(_write_images, images, {})
        for index in range(worker, studies, workers):
            uid, study, _ = _sampled(seed, index)
            views = dict(zip(_names(uid, study), render(study, size)))
            writing.result()
            writing = writer.submit(_write_images, images, views)
            bar.update(min(workers, studies - index))
        writing.result()


@contextmanager
def _helpers_drawing(images: Path, studies: int, seed: int, size: int) -> Iterator[int]:
    """Start processes that each draw a share; yield how many draw, this one included. They are
    plain commands: a fork after TensorFlow has started can hang, other pools import the caller's
    script again.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    workers = max(1, min(cores or 1, MOST_WORKERS, studies // STUDIES_A_WORKER))
    code = (
        "import sys; from pathlib import Path; "
        "from xray_captioning.phantom.dataset import draw_share; "
        "draw_share(Path(sys.argv[1]), *map(int, sys.argv[2:]))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)}
    helpers = []
    try:
        for worker in range(1, workers):
            numbers = map(str, (studies, seed, size, worker, workers))
            line = [sys.executable, "-c", code, str(images), *numbers]
            helpers.append(subprocess.Popen(line, env=environment, stderr=subprocess.PIPE))
        yield workers
        for helper in helpers:
            _, error = helper.communicate()
            if helper.returncode:
                last = error.decode(errors="replace").strip().splitlines()[-1:]
                raise DataError(f"{images}: a drawing process failed ({' '.join(last)}); try again")
    finally:
        for helper in helpers:
            helper.kill()
            helper.wait()


def _sampled(seed: int, index: int) -> tuple[int, PhantomStudy, np.random.Generator]:
    rng = np.random.default_rng([seed, index])
    return FIRST_UID + index, sample_study(rng), rng


def _names(uid: int, study: PhantomStudy) -> dict[str, str]:
    numbers = {"1001": "Frontal", "2001": "Lateral"} if study.lateral else {"1001": "Frontal"}
    return {f"{uid}_IM-0001-{number}.dcm.png": view for number, view in numbers.items()}


def _write_images(folder: Path, views: dict[str, _Image]) -> None:
    cv2 = opencv()
    # Film grain hardly compresses: storing it takes a third more space and a sixth of the time.
    flags = [cv2.IMWRITE_PNG_COMPRESSION, 0]
    if hasattr(cv2, "IMWRITE_PNG_FILTER"):  # OpenCV 4.11; older ones try every filter
        flags += [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE]
    for name, image in views.items():
        (folder / name).write_bytes(cv2.imencode(".png", image, flags)[1].tobytes())


def _write_table(path: Path, rows: _Rows) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
