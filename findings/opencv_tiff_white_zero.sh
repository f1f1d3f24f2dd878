#!/usr/bin/env bash
# opencv-python-headless 5.0.0.93 on TIFF files in which zero is white (PhotometricInterpretation 0).
#
# Guess: OpenCV inverts them, or leaves them as they are, whatever the depth.
# What happened: 8-bit files are inverted, so that zero is shown white; 16-bit ones are not, so that
# the same radiograph is a negative as soon as it has more than 8 bits. Nothing is said.
# Output seen: 8 bits, stored 0 50 200 255: 255 205 55 0; 16 bits, stored 0 12850 51400 65535: unchanged.
# Date: 2026-11-28.
#
# Why it matters here: film digitisers write white-is-zero, and 16 bits is what one keeps. Lungs come out
# white and bones black, and a network that never saw negatives captions them. Read the tag and invert.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet opencv-python-headless==5.0.0.93 tifffile==2026.3.3 numpy==2.4.6
env/bin/python - <<'PY'
import importlib.metadata as md

import cv2
import numpy as np
import tifffile

print({name: md.version(name) for name in ("opencv-python-headless", "tifffile", "numpy")})
steps = {"uint8": [0, 50, 200, 255], "uint16": [0, 12850, 51400, 65535]}
seen = {}
for kind, values in steps.items():
    picture = np.tile(np.array(values, kind), (16, 4))
    tifffile.imwrite(f"{kind}.tif", picture, photometric="miniswhite")
    read = cv2.imread(f"{kind}.tif", cv2.IMREAD_UNCHANGED)
    seen[kind] = read[0, :4].tolist()
    print(kind, "stored", values, "read", seen[kind], read.dtype)
assert seen["uint8"] == [255, 205, 55, 0], "8 bits are no longer inverted"
assert seen["uint16"] == steps["uint16"], "16 bits are inverted now"
PY
