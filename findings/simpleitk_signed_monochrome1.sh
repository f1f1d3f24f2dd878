#!/usr/bin/env bash
# SimpleITK 2.5.7 (its GDCM) on signed MONOCHROME1 pixels.
#
# Guess: since it inverts MONOCHROME1 while reading, it does so for every stored depth alike.
# What happened: signed 8 and 16 bits are inverted; signed 12 bits in 16 is refused with a
# RuntimeError that names a line of GDCM instead of the file's trouble. The same pixels called
# MONOCHROME2 are read, and unsigned 12 bits is inverted about 4095.
# Output seen: first and last value of a rising ramp: 8 bits 127 -128; 16 bits 2047 -2048; 12 bits
#              RuntimeError "An invalid logic behavior occurred"; MONOCHROME2 -2048 2047.
# Date: 2026-11-28.
#
# Why it matters here: one study in a folder stops a whole conversion, or is skipped and lost from the
# split, by its combination of two tags that are each harmless. The message does not say which.
# Catch it for each file, and fall back on pydicom, which reads all of these.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet SimpleITK==2.5.7 pydicom==3.0.2 numpy==2.4.6
env/bin/python - <<'PY'
import importlib.metadata as md
import numpy as np
import SimpleITK as sitk
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian


def read(stored, photometric, values, signed=1):
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1", "1.2.3.4"
    ds.Modality, ds.Rows, ds.Columns, ds.SamplesPerPixel = "CR", *values.shape, 1
    ds.PhotometricInterpretation, ds.PixelRepresentation = photometric, signed
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = values.itemsize * 8, stored, stored - 1
    ds.add_new("PixelData", "OB" if values.itemsize == 1 else "OW", values.tobytes())
    ds.save_as("x.dcm", enforce_file_format=True)
    assert (dcmread("x.dcm").pixel_array == values).all()
    try:
        answer = sitk.GetArrayFromImage(sitk.ReadImage("x.dcm")).ravel()[[0, -1]].tolist()
    except RuntimeError as error:
        answer = "RuntimeError: An invalid logic behavior occurred"
        assert "An invalid logic behavior occurred" in str(error), error
    print(stored, "bits", "signed" if signed else "unsigned", photometric, answer)
    return answer


print({name: md.version(name) for name in ("SimpleITK", "pydicom", "numpy")})
ramp = np.arange(4096).reshape(64, 64)
low = (ramp - 2048).astype("<i2")
assert read(8, "MONOCHROME1", (ramp // 16 - 128).astype("i1")) == [127, -128]
assert read(16, "MONOCHROME1", low) == [2047, -2048]
assert read(12, "MONOCHROME2", low) == [-2048, 2047]
assert read(12, "MONOCHROME1", ramp.astype("<u2"), signed=0) == [4095, 0]
assert "RuntimeError" in read(12, "MONOCHROME1", low), "signed 12-bit MONOCHROME1 is read now"
PY
