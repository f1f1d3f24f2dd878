#!/usr/bin/env bash
# SimpleITK 2.5.7, nibabel 5.4.2, dicomsdl 0.109.4, dicom2jpg 0.1.10 on a Modality LUT Sequence.
#
# Guess: readers that apply RescaleSlope and RescaleIntercept on their own apply the table that DICOM
# allows in their place, or refuse the file.
# (nibabel's own warning calls its DICOM readers experimental.)
# What happened: the first three apply the slope, and all three pass over the table without a word and hand
# out stored values. dicom2jpg raises IndexError where the file has a window as well. Only pydicom
# (when asked) and highdicom (always) apply it.
# Output seen: first and last value with slope 0.5: 0 and 2047.5 from all five; with a table of falling
#              optical density: 65535 and 15 from pydicom and highdicom, 0 and 4095 from the others.
# Date: 2026-11-28.
#
# Why it matters here: a table that falls turns dark into bright. Half of the readers then show this radiograph inverted, at a different scale, although they handle the linear
# form of the same step. Reading by one path for training and another for use is not safe.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet pydicom==3.0.2 highdicom==0.28.2 SimpleITK==2.5.7 nibabel==5.4.2 dicomsdl==0.109.4 dicom2jpg==0.1.10 numpy==2.4.6
env/bin/python - <<'PY'
import importlib.metadata as md
import dicom2jpg
import dicomsdl
import highdicom as hd
import nibabel.nicom.dicomwrappers as wrappers
import numpy as np
import SimpleITK as sitk
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import apply_modality_lut
from pydicom.uid import ExplicitVRLittleEndian

stored = np.arange(4096).astype("<u2").reshape(64, 64)


def write(path, **more):
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1", "1.2.3.4"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.3", "1.2.3.1"
    ds.StudyDate = ds.StudyTime = ds.PatientName = ds.PatientBirthDate = ds.PatientSex = ""
    ds.PatientID = ds.AccessionNumber = ds.StudyID = ds.ReferringPhysicianName = ""
    ds.SeriesNumber = ds.InstanceNumber = 1
    ds.Modality, ds.Rows, ds.Columns, ds.SamplesPerPixel = "CR", *stored.shape, 1
    ds.PhotometricInterpretation, ds.PixelRepresentation = "MONOCHROME2", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 12, 11
    ds.add_new("PixelData", "OW", stored.tobytes())
    for name, value in more.items():
        setattr(ds, name, value)
    ds.save_as(path, enforce_file_format=True)
    arrays = {
        "pydicom": apply_modality_lut(dcmread(path).pixel_array, dcmread(path)),
        "highdicom": hd.imread(path).get_frame(1),
        "SimpleITK": sitk.GetArrayFromImage(sitk.ReadImage(path)),
        "nibabel": wrappers.wrapper_from_file(path).get_data(),
        "dicomsdl": dicomsdl.open(path).pixelData(),
    }
    seen = {name: np.ravel(a)[[0, -1]].astype(float).tolist() for name, a in arrays.items()}
    print(path, seen)
    return list(seen.values())


for name in ("pydicom", "highdicom", "SimpleITK", "nibabel", "dicomsdl", "dicom2jpg"):
    print(name, md.version(name))
table = Dataset()
table.LUTDescriptor, table.ModalityLUTType = [4096, 0, 16], "OD"
table.add_new("LUTData", "OW", (65535 - np.arange(4096) * 16).astype("<u2").tobytes())
assert write("slope.dcm", RescaleSlope="0.5", RescaleIntercept="0") == [[0, 2047.5]] * 5
seen = write("table.dcm", ModalityLUTSequence=[table], WindowCenter="32768", WindowWidth="65536")
assert seen == [[65535, 15]] * 2 + [[0, 4095]] * 3, "a reader treats the table differently"
try:
    raise AssertionError(f"dicom2jpg reads the file now: {dicom2jpg.dicom2img('table.dcm')}")
except IndexError as error:
    print("dicom2jpg: IndexError:", error)
PY
