"""Small collections in the formats that people bring, and a server to try a bundle with."""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xray_captioning.errors import DataError, MissingExtraError

if TYPE_CHECKING:
    import pandas as pd


def write_captions(studies: pd.DataFrame, out: str | Path, column: str = "impression") -> Path:
    """Write ``captions.csv`` and ``images/`` in a folder, which is replaced where it exists.

    Parameters
    ----------
    studies : pandas.DataFrame
        With images on disk; those without a text are left out.
    out : path
    column : {"impression", "findings"}
        The text that becomes the caption.

    Returns
    -------
    Path
        The folder.
    """
    folder = Path(out)
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "images").mkdir(parents=True)
    with (folder / "captions.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("study_id", "image", "caption"))
        for study, images, text in zip(studies["study_id"], studies["images"], studies[column]):
            for image in images if text else []:
                shutil.copyfile(image, folder / "images" / Path(image).name)
                writer.writerow((study, Path(image).name, text))
    return folder


def write_dicom(image: str, out: str | Path, view: str = "PA") -> Path:
    """Write a grey image as an uncompressed DICOM file without any patient field.

    Parameters
    ----------
    image : str
        A file that :func:`xray_captioning.data.images.read_image` reads.
    out : path
    view : {"PA", "AP", "LL"}
        The view position.

    Returns
    -------
    Path
        ``out``.

    Raises
    ------
    MissingExtraError
        pydicom is not installed.
    """
    from xray_captioning.data.images import opencv

    try:
        from pydicom.dataset import FileDataset, FileMetaDataset
        from pydicom.uid import (
            DigitalXRayImageStorageForPresentation,
            ExplicitVRLittleEndian,
            generate_uid,
        )
    except ImportError as error:
        raise MissingExtraError(
            "writing DICOM needs pydicom; pip install 'xray-captioning[dicom]'"
        ) from error
    pixels = opencv().imread(image, opencv().IMREAD_GRAYSCALE)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset: Any = FileDataset(str(out), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta[0x00020002].value, meta[0x00020003].value
    dataset.Modality, dataset.ViewPosition = "DX", view
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.PixelData = pixels.tobytes()
    dataset.save_as(str(out))
    return Path(out)


def write_openi(studies: pd.DataFrame, out: str | Path) -> Path:
    """Write one XML report a study as Open-i does, in a folder that is replaced where it exists.

    Parameters
    ----------
    studies : pandas.DataFrame
    out : path

    Returns
    -------
    Path
        The folder.
    """
    folder = Path(out)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for row in studies.to_dict("records"):
        (folder / f"{row['study_id']}.xml").write_text(_report(row), "utf-8")
    return folder


def _report(row: dict[Any, Any]) -> str:
    from xml.sax.saxutils import escape, quoteattr

    names = ("comparison", "indication", "findings", "impression")
    texts = [
        f'        <AbstractText Label="{name.upper()}">{escape(row[name] or "")}</AbstractText>'
        for name in names
    ]
    images = [f"  <parentImage id={quoteattr(Path(image).stem)}/>" for image in row["images"]]
    lines = [
        '<?xml version="1.0" encoding="utf-8"?>',
        "<eCitation>",
        f"  <uId id={quoteattr('CXR' + row['study_id'])}/>",
        "  <MedlineCitation><Article><Abstract>",
        *texts,
        "  </Abstract></Article></MedlineCitation>",
        *images,
        "</eCitation>",
    ]
    return "\n".join(lines) + "\n"


@contextmanager
def serving(bundle: str | Path, seconds: float = 120) -> Iterator[str]:
    """Run ``xray-captioning serve`` beside the notebook, and end it afterwards.

    Parameters
    ----------
    bundle : str or Path
    seconds : float
        Longest to wait until it is ready.

    Yields
    ------
    str
        Its address, such as ``http://127.0.0.1:8080``.

    Raises
    ------
    DataError
        It ended, or was not ready in time.
    """
    line = [sys.executable, "-m", "xray_captioning", "serve", "--bundle", str(bundle), "--port=0"]
    server = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        said = re.search(r"http://\S+", server.stdout.readline() if server.stdout else "")
        if said is None or not _ready(said[0], server, seconds):
            raise DataError(f"{bundle}: the server did not start; try {' '.join(line[2:])}")
        yield said[0]
    finally:
        server.terminate()
        server.wait()


def _ready(address: str, server: subprocess.Popen[str], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while server.poll() is None and time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"{address}/readyz", timeout=5):
                return True
        except OSError:  # refused, or 503 while the model is compiled
            time.sleep(0.2)
    return False
