#!/usr/bin/env bash
# TorchIO 1.2.1, ToCanonical on a radiograph in a PNG file.
#
# Guess: a picture without an orientation stays as it is; only volumes with an affine are turned.
# What happened: a PNG is read as if it were a slice of a patient who lies there, left, posterior, superior. ToCanonical,
# the step that the documentation puts first, turns it by 180 degrees: what was at the upper left is at the lower right.
# Saved as PNG again, the file is upside down and mirrored at once. And RandomFlip mirrors left and right unless it is told
# an axis: the first axis is the width.
# Output seen: read ('L', 'P', 'S') at (6, 5) of (60, 40); canonical ('R', 'A', 'S') at (54, 35); RandomFlip (0,)
# Date: 2026-11-30.
#
# Why it matters here: the heart points to the other side, and a caption's "right" is the picture's other half, in all
# studies alike, so that no loss and no accuracy shows it: an encoder trained so is wrong on films read any other
# way. Leave ToCanonical out for radiographs, and name RandomFlip's axis or leave it out, too.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet torchio==1.2.1 torch==2.13.0 SimpleITK==2.5.7 numpy==2.4.6 pillow==13.0.0
env/bin/python - <<'PY'
import importlib.metadata as md
import warnings

import numpy as np
import torchio
from PIL import Image

warnings.simplefilter("ignore")
print({name: md.version(name) for name in ("torchio", "simpleitk", "torch")})
film = np.zeros((40, 60), np.uint8)
film[2:8, 3:9] = 200  # a marker at the upper left
Image.fromarray(film).save("film.png")


def marker(pixels):
    return tuple(round(float(places.mean()) + 0.01) for places in np.where(np.asarray(pixels) > 100))


read = torchio.ScalarImage("film.png")
turned = torchio.ToCanonical()(read)
print("read", read.orientation, marker(read.data[0, :, :, 0]), tuple(read.data.shape[1:3]))
print("canonical", turned.orientation, marker(turned.data[0, :, :, 0]), "RandomFlip", torchio.RandomFlip().axes)
assert marker(read.data[0, :, :, 0]) == (6, 5)
turned.save("again.png")
again = np.asarray(Image.open("again.png"))
assert (again == film[::-1, ::-1]).all(), "a film is no longer turned by 180 degrees"
assert torchio.RandomFlip().axes == (0,)
PY
