"""Small collections in the formats that people bring, and a server to try a bundle with."""

from __future__ import annotations

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
from xml.etree import ElementTree

from xray_captioning.data.images import opencv
from xray_captioning.errors import DataError, require

if TYPE_CHECKING:
    import pandas as pd

WAIT = 120  # seconds at most until a server is ready


def write_captions(studies: pd.DataFrame, out: str | Path) -> Path:
    """Write ``captions.csv`` with the impressions, and ``images/``, in a folder that is made anew.

    Studies without an impression are left out.
    """
    folder = _new_folder(out)
    (folder / "images").mkdir()
    rows = studies[studies["impression"].fillna("") != ""].explode("images")
    for image in rows["images"]:
        shutil.copyfile(image, folder / "images" / Path(image).name)
    rows = rows.assign(image=rows["images"].map(lambda image: Path(image).name))
    rows = rows.rename(columns={"impression": "caption"})[["study_id", "image", "caption"]]
    rows.to_csv(folder / "captions.csv", index=False)
    return folder


def write_dicom(image: str, out: str | Path, view: str = "PA") -> Path:
    """Write a grey image as an uncompressed DICOM file without any patient field.

    The view position is PA, AP or LL.
    """
    pydicom = require("pydicom", "writing DICOM files", "dicom")
    dataset = pydicom.Dataset()
    dataset.SOPClassUID = pydicom.uid.DigitalXRayImageStorageForPresentation
    dataset.SOPInstanceUID = pydicom.uid.generate_uid()
    dataset.Modality, dataset.ViewPosition = "DX", view
    pixels = opencv().imread(image, opencv().IMREAD_GRAYSCALE)
    dataset.set_pixel_data(pixels, "MONOCHROME2", 8)
    pydicom.dcmwrite(out, dataset, enforce_file_format=True)
    return Path(out)


def write_openi(studies: pd.DataFrame, out: str | Path) -> Path:
    """Write an XML report a study as Open-i does, in a folder that is made anew."""
    folder = _new_folder(out)
    for row in studies.to_dict("records"):
        report = ElementTree.ElementTree(_report(row))
        report.write(folder / f"{row['study_id']}.xml", "utf-8", xml_declaration=True)
    return folder


@contextmanager
def serving(bundle: str | Path) -> Iterator[str]:
    """Run ``xray-captioning serve`` beside the notebook, yield its address, and stop it again."""
    line = [sys.executable, "-m", "xray_captioning", "serve", "--bundle", str(bundle), "--port=0"]
    server = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        said = re.search(r"http://\S+", server.stdout.readline() if server.stdout else "")
        if said is None or not _ready(said[0], server):
            raise DataError(f"{bundle}: the server did not start; try {' '.join(line[2:])}")
        yield said[0]
    finally:
        server.terminate()
        server.wait()


def _ready(address: str, server: subprocess.Popen[str]) -> bool:
    end = time.monotonic() + WAIT
    while server.poll() is None and time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"{address}/readyz", timeout=5):
                return True
        except OSError:  # refused, or 503 while the model is compiled
            time.sleep(0.2)
    return False


def _new_folder(path: str | Path) -> Path:
    shutil.rmtree(path, ignore_errors=True)
    Path(path).mkdir(parents=True)
    return Path(path)


def _report(row: dict[Any, Any]) -> ElementTree.Element:
    report = ElementTree.Element("eCitation")
    ElementTree.SubElement(report, "uId", id=f"CXR{row['study_id']}")
    parent = report
    for name in ("MedlineCitation", "Article", "Abstract"):
        parent = ElementTree.SubElement(parent, name)
    for name in ("comparison", "indication", "findings", "impression"):
        ElementTree.SubElement(parent, "AbstractText", Label=name.upper()).text = row[name]
    for image in row["images"]:
        ElementTree.SubElement(report, "parentImage", id=Path(image).stem)
    ElementTree.indent(report)
    return report
