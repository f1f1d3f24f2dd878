#!/usr/bin/env bash
# dicomsdl 0.109.4, DataSet.to_pil_image, on a 12-bit CR image with one window.
#
# Guess: everything darker than the window becomes black, everything brighter white.
# What happened: what is brighter becomes white, and what is darker becomes white, too. Only
# values inside the window are right. Without a window in the file the picture is right.
# Output seen: stored 0 500 1000 1547 1548 2048 2547 2548 4095
#              grey 255 255 255    0    0  127  255  255  255   (window centre 2048, width 1000)
# Date: 2026-11-28.
#
# Why it matters here: a radiograph has much air and collimated border below its window. PNGs made
# this way show them white, and no error, range check or look at the mean tells it from an
# ordinary bright picture. Window the stored values here rather than train on such exports.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet dicomsdl==0.109.4 pydicom==3.0.2 numpy==2.4.6 pillow==13.0.0
env/bin/python - <<'PY'
import importlib.metadata as md
import dicomsdl
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

stored = np.tile(np.array([0, 500, 1000, 1547, 1548, 2048, 2547, 2548, 4095, 4095], "<u2"), (10, 1))


def write(path, **more):
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1", "1.2.3.4"
    ds.Modality, ds.Rows, ds.Columns, ds.SamplesPerPixel = "CR", *stored.shape, 1
    ds.PhotometricInterpretation, ds.PixelRepresentation = "MONOCHROME2", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 12, 11
    ds.add_new("PixelData", "OW", stored.tobytes())
    for name, value in more.items():
        setattr(ds, name, value)
    ds.save_as(path, enforce_file_format=True)


print({name: md.version(name) for name in ("dicomsdl", "pydicom", "numpy", "pillow")})
write("window.dcm", WindowCenter="2048", WindowWidth="1000")
write("plain.dcm")
window = np.asarray(dicomsdl.open("window.dcm").to_pil_image())[0]
plain = np.asarray(dicomsdl.open("plain.dcm").to_pil_image())[0]
print("stored ", stored[0].tolist())
print("window ", window.tolist())
print("plain  ", plain.tolist())
assert window[:3].tolist() == [255] * 3, "below the window is no longer white"
assert window[3:9].tolist() == [0, 0, 127, 255, 255, 255]
assert plain[0] == 0 and plain[8] == 255 and (np.diff(plain.astype(int)) >= 0).all()
PY
