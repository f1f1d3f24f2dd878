#!/usr/bin/env bash
# imageio 2.38.1 (v3 imread), a DICOM file in a folder with others; files are written with pydicom 3.0.2.
#
# Guess: imread("two.dcm") reads two.dcm.
# What happened: the file's whole folder is searched, with its subfolders, for series, and imread returns the first picture of
# the first series found, whichever file was named: two films of two patients in one folder give the same pixels, those of
# one of them. Alone in a folder each is read as itself. In a large folder every call reads the head of each file there.
# It says on the console how many series it has found; no warning, no error.
# Output seen: alone 1000 and 2000; together 1000 and 1000 (or 2000 twice: the identifiers are drawn anew)
# Date: 2026-11-30.
#
# Why it matters here: a folder of DICOM films, each of a series of its own, is what hospitals hand out. A loop
# over imread then pairs every report with one and the same film. Read with pydicom, or keep each file in
# a folder of its own.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet imageio==2.38.1 pydicom==3.0.2 numpy==2.4.6
env/bin/python - <<'PY'
import contextlib
import importlib.metadata as md
import io
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

print({name: md.version(name) for name in ("imageio", "pydicom")})


def film(path, grey):
    path.parent.mkdir(exist_ok=True)
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    data.StudyInstanceUID, data.SeriesInstanceUID = generate_uid(), generate_uid()
    data.Modality, data.PatientID, data.InstanceNumber = "DX", str(grey), 1
    data.Rows = data.Columns = 8
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 0
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 12, 11
    data.PixelData = np.full((8, 8), grey, np.uint16).tobytes()
    data.save_as(path, enforce_file_format=True)
    return path


def read(*paths):
    with contextlib.redirect_stdout(io.StringIO()):
        return [int(imageio.imread(path).max()) for path in paths]


alone = read(film(Path("first/one.dcm"), 1000), film(Path("second/two.dcm"), 2000))
paths = film(Path("both/one.dcm"), 1000), film(Path("both/two.dcm"), 2000)
both = read(*paths)
print("alone", alone, "together", both)
assert alone == [1000, 2000]
assert both[0] == both[1], "the file that is named is read now"
PY
