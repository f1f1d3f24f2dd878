#!/usr/bin/env bash
# pydicom 3.0.2 and SimpleITK 2.5.7 (GDCM) on 12 bits that are left-justified in 16: High Bit 15.
#
# Guess: both shift the words by High Bit + 1 - Bits Stored, as the standard places the sample there.
# What happened: both take the low 12 bits of each word, whatever High Bit says, so that four even
# steps of grey come out as three of another height and a fall to nearly nothing. Nothing is said.
# Output seen: words 7200 7680 8160 8640 hold 450 480 510 540;
#              both give 3104 3584 4064 448.
# Date: 2026-11-28.
#
# Why it matters here: such files are met in archives and were legal under older editions
# of the standard. What a viewer or a training set makes of them is noise in the place of a lung, with a
# plausible mean, and a caption is written of it. Shift by High Bit yourself, or refuse the file.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet pydicom==3.0.2 SimpleITK==2.5.7 numpy==2.4.6
env/bin/python - <<'PY'
import importlib.metadata as md
import warnings

import numpy as np
import SimpleITK as sitk
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

warnings.simplefilter("ignore")
print({name: md.version(name) for name in ("pydicom", "SimpleITK", "numpy")})
stored = np.array([[450, 480], [510, 540]], np.uint16)
file = Dataset()
file.file_meta = FileMetaDataset()
file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
file.file_meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
file.file_meta.MediaStorageSOPInstanceUID = generate_uid()
file.SOPClassUID = DigitalXRayImageStorageForPresentation
file.SOPInstanceUID = file.file_meta.MediaStorageSOPInstanceUID
file.Modality = "DX"
file.Rows, file.Columns, file.SamplesPerPixel = 2, 2, 1
file.PhotometricInterpretation = "MONOCHROME2"
file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 16, 12, 15, 0
file.PixelData = (stored << 4).tobytes()
file.save_as("left.dcm", enforce_file_format=True)

seen = {
    "pydicom": dcmread("left.dcm").pixel_array.ravel().tolist(),
    "SimpleITK": sitk.GetArrayFromImage(sitk.ReadImage("left.dcm")).ravel().tolist(),
}
print("words", (stored << 4).ravel().tolist(), "hold", stored.ravel().tolist(), seen)
low_bits = ((stored << 4) & 0xFFF).ravel().tolist()
assert all(values == low_bits for values in seen.values()), "High Bit is heeded, or read otherwise"
PY
