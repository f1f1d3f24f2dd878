#!/usr/bin/env bash
# Pillow 13.0.0, imagecodecs 2026.3.6, pylibjpeg-openjpeg 2.6.0 and OpenCV 5.0.0 on one JPEG 2000.
#
# Guess: JPEG 2000 states its precision and sign, and a lossless file gives its numbers back anywhere.
# What happened: imagecodecs and openjpeg do. Pillow stretches 12 bits to 16 (each value 16 times as
# large) and adds half of the range to signed values, without saying so anywhere in the image.
# OpenCV reads the unsigned file as it is and refuses the signed one: decoding it returns None.
# Output seen: unsigned 0 1 2048 4095: Pillow 0 16 32768 65520, others unchanged; signed 12 bits
#              -2048 -1 0 2047: Pillow 0 32752 32768 65520, imagecodecs and openjpeg unchanged, OpenCV None.
# Date: 2026-11-28.
#
# Why it matters here: radiographs are often 12-bit, and DICOM may hold them as JPEG 2000.
# Frames taken out of DICOM and read as images are 16 times brighter through Pillow than through
# OpenCV, so one fixed divisor or window fits one reader only. (pydicom's own Pillow plugin undoes it.)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet pillow==13.0.0 imagecodecs==2026.3.6 pylibjpeg-openjpeg==2.6.0 opencv-python-headless==5.0.0.93 numpy==2.4.6
env/bin/python - <<'PY'
import importlib.metadata as md
import io
import os

os.environ["OPENCV_LOG_LEVEL"] = "SILENT"
import cv2
import imagecodecs
import numpy as np
import openjpeg.utils
from PIL import Image


def read(values):
    data = openjpeg.utils.encode_array(values, bits_stored=12, photometric_interpretation=2)
    arrays = {
        "imagecodecs": imagecodecs.jpeg2k_decode(data),
        "openjpeg": openjpeg.utils.decode(data),
        "Pillow": np.asarray(Image.open(io.BytesIO(data))),
        "OpenCV": cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED),
    }
    seen = {n: None if a is None else a.ravel()[:4].tolist() for n, a in arrays.items()}
    print(values.dtype, values.ravel()[:4].tolist(), seen)
    return seen


names = ("pillow", "imagecodecs", "pylibjpeg-openjpeg", "opencv-python-headless", "numpy")
print({name: md.version(name) for name in names})
first = [0, 1, 2048, 4095]
seen = read(np.tile(np.array(first, np.uint16), (64, 16)))
assert seen["imagecodecs"] == seen["openjpeg"] == seen["OpenCV"] == first
assert seen["Pillow"] == [0, 16, 32768, 65520], "Pillow scales differently"
first = [-2048, -1, 0, 2047]
seen = read(np.tile(np.array(first, np.int16), (64, 16)))
assert seen["imagecodecs"] == seen["openjpeg"] == first
assert seen["Pillow"] == [0, 32752, 32768, 65520], "Pillow shifts differently"
assert seen["OpenCV"] is None, "OpenCV reads signed JPEG 2000 now"
PY
