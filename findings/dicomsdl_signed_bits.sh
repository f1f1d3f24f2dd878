#!/usr/bin/env bash
# dicomsdl 0.109.4 against pydicom 3.0.2, SimpleITK 2.5.7 and nibabel 5.4.2 on 12 bits stored in 16.
#
# Guess: all four take only the stored bits, and if one forgets the sign it is pydicom.
# What happened: pydicom, SimpleITK and nibabel agree. dicomsdl hands out the whole 16-bit word: a
# signed -2048 whose four unused bits are zero reads 2048, a bit above the stored ones (where
# older files keep an overlay) adds 4096, and a signed JPEG-LS picture loses its sign, too, while
# the same picture written with the sign in the unused bits is right.
# Output seen: the table printed below: sign in the unused bits -2048 -1 0 2047 from all four; unused
#              bits zero or JPEG-LS: 2048 4095 0 2047 from dicomsdl; overlay bit: 4096 and up.
# Date: 2026-11-28.
#
# Why it matters here: DICOM lets a writer leave anything above HighBit. Read with dicomsdl, the
# darkest half of a signed radiograph is brighter than its brightest, and one overlay bit shifts a
# picture by its whole range. Images read for the same study by two readers then differ silently.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet dicomsdl==0.109.4 pydicom==3.0.2 pyjpegls==1.5.1 SimpleITK==2.5.7 nibabel==5.4.2 numpy==2.4.6
env/bin/python - <<'PY'
import importlib.metadata as md
import dicomsdl
import nibabel.nicom.dicomwrappers as wrappers
import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, JPEGLSLossless


def write(path, words, signed):
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1", "1.2.3.4"
    ds.Modality, ds.Rows, ds.Columns, ds.SamplesPerPixel = "CR", *words.shape, 1
    ds.PhotometricInterpretation, ds.PixelRepresentation = "MONOCHROME2", signed
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 12, 11
    ds.add_new("PixelData", "OW", words.astype("<u2").tobytes())
    ds.save_as(path, enforce_file_format=True)


def read(path):
    arrays = {
        "pydicom": pydicom.dcmread(path).pixel_array,
        "SimpleITK": sitk.GetArrayFromImage(sitk.ReadImage(path)),
        "dicomsdl": dicomsdl.open(path).pixelData(storedvalue=True),
    }
    if not path.startswith("jls"):  # nibabel reads no JPEG-LS
        arrays["nibabel"] = wrappers.wrapper_from_file(path).get_data()
    seen = {name: np.asarray(a).ravel()[:4].tolist() for name, a in arrays.items()}
    print(path, seen)
    odd = seen.pop("dicomsdl")
    assert len(set(map(tuple, seen.values()))) == 1, "the other readers no longer agree"
    return odd, seen["pydicom"]


print({n: md.version(n) for n in ("dicomsdl", "pydicom", "SimpleITK", "nibabel", "pyjpegls")})
values = np.tile([-2048, -1, 0, 2047], (8, 2))
write("extended.dcm", values & 0xFFFF, 1)
write("zero.dcm", values & 0xFFF, 1)
write("overlay.dcm", np.abs(values) | 0x1000, 0)
ds = pydicom.dcmread("extended.dcm")
ds.compress(JPEGLSLossless)
ds.save_as("jls.dcm")
right = [-2048, -1, 0, 2047]
assert read("extended.dcm") == (right, right)
assert read("zero.dcm") == ([2048, 4095, 0, 2047], right)
assert read("jls.dcm") == ([2048, 4095, 0, 2047], right)
assert read("overlay.dcm") == ([6144, 4097, 4096, 6143], [2048, 1, 0, 2047])
PY
