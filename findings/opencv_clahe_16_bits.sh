#!/usr/bin/env bash
# opencv-python-headless 5.0.0.93 (cv2.createCLAHE) on films of 16 bits.
#
# Guess: clipLimit is relative to a tile's mean, so that one limit equalises a picture of 8 bits and the same one of 16 alike.
# What happened: it is, but over 65,536 grey values a tile of 64 x 64 pixels has a sixteenth of a pixel each, and the limit is
# never less than one pixel: clipLimit 1, 2, 4 and 10 give the same picture, and all do next to nothing. Only above about 16 does
# the limit act. A film of 12 bits in 16 comes out far above 4095 besides, because the scale is that of 16 bits.
# Output seen: 8 bits: each limit another picture; 16 bits: 1, 2, 4 and 10 alike; 12 bits: white is 13524
# Date: 2026-11-30.
#
# Why it matters here: CLAHE with clipLimit=2 and 8 x 8 tiles is what many recipes for chest films say, and films have 12 to 16
# bits. Applied before the film is brought to 8 bits the same line equalises nothing, and whoever searches for the best
# limit finds that it does not matter.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet opencv-python-headless==5.0.0.93 numpy==2.4.6
env/bin/python - <<'PY'
import cv2
import numpy as np

print({"opencv": cv2.__version__, "numpy": np.__version__})
LIMITS = (1.0, 2.0, 4.0, 10.0, 40.0)
ramp = np.linspace(0, 1, 512)
film = (np.add.outer(ramp, ramp) / 2 + np.random.default_rng(0).normal(0, 0.02, (512, 512))).clip(0, 1)


def equalised(bits, limit):
    kind = np.uint8 if bits == 8 else np.uint16
    return cv2.createCLAHE(limit, (8, 8)).apply((film * (2**bits - 1)).round().astype(kind))


for bits in (8, 12, 16):
    found = [equalised(bits, limit) for limit in LIMITS]
    apart = [float(np.abs(one - found[0].astype(float)).mean() / (2**bits - 1)) for one in found]
    print(f"{bits} bits: from limit 1", [f"{far:.3f}" for far in apart], "white", int(found[1].max()))
    assert len({one.tobytes() for one in found[:4]}) == (4 if bits == 8 else 1), "the limit acts otherwise now"
    assert len({one.tobytes() for one in found}) > 1
assert equalised(12, 2.0).max() > 2 * 4095
PY
