#!/usr/bin/env bash
# pydicom 3.0.2, apply_windowing after apply_rescale, against highdicom 0.28.2.
#
# Guess: the windowed picture runs from 0 to 2^BitsStored - 1 and keeps dark dark.
# What happened: the output range is the stored range sent through slope and intercept. With
# intercept -1024 it is -1024 to 3071, with slope 0.25 it is 0 to 1023.75; with a negative slope its
# two ends change places, so that what is below the window gets the highest value and the picture
# comes out inverted. highdicom answers 0 to 1, the right way round, in every case.
# Output seen: (darkest, brightest) in the modality's unit: plain (0, 4095), intercept -1024
#              (-1024, 3071), slope 0.25 (0, 1023.75), slope -1 (4095, 0); highdicom (0, 1) in all.
# Date: 2026-11-28.
#
# Why it matters here: DICOM does not forbid a negative slope. Dividing by 4095 is wrong for two of
# these files, and rescaling by minimum and maximum, the usual repair, hides the
# inversion. Sort the two ends, or window by hand, before any picture reaches an encoder.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet pydicom==3.0.2 highdicom==0.28.2 numpy==2.4.6
env/bin/python - <<'PY'
import importlib.metadata as md
import highdicom as hd
import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import apply_rescale, apply_windowing
from pydicom.uid import ExplicitVRLittleEndian

stored = np.linspace(0, 4095, 4096).astype("<u2").reshape(64, 64)


def write(path, slope, intercept, centre, width):
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
    ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = slope, intercept, "US"
    ds.WindowCenter, ds.WindowWidth = centre, width
    ds.add_new("PixelData", "OW", stored.tobytes())
    ds.save_as(path, enforce_file_format=True)


def ends(slope, intercept, centre, width):
    write("x.dcm", slope, intercept, centre, width)
    ds = dcmread("x.dcm")
    unit = apply_rescale(ds.pixel_array, ds)
    dark, bright = unit.argmin(), unit.argmax()
    seen = apply_windowing(unit, ds).ravel()
    other = hd.imread("x.dcm").get_frame(1, apply_voi_transform=True).ravel()
    answer = [float(seen[dark]), float(seen[bright])]
    print("slope", slope, "intercept", intercept, "pydicom", answer,
          "highdicom", [float(other[dark]), float(other[bright])])
    assert [other[dark], other[bright]] == [0, 1]
    return answer


print({name: md.version(name) for name in ("pydicom", "highdicom", "numpy")})
assert ends("1", "0", "2048", "1000") == [0, 4095]
assert ends("1", "-1024", "1024", "1000") == [-1024, 3071]
assert ends("0.25", "0", "512", "250") == [0, 1023.75]
assert ends("-1", "4095", "2048", "1000") == [4095, 0], "the ends no longer change places"
PY
