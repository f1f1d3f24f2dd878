#!/usr/bin/env bash
# Pillow 13.0.0, rotate and transform of a grey picture of 16 bits.
#
# Guess: as with resize, which works on 16 bits; or an error, as of ImageOps.autocontrast ("not supported for mode I;16").
# What happened: with nearest neighbours, the default, all is right. With bilinear or bicubic interpolation the picture is
# still one of 16 bits, but only its lower bytes are read and written: a ramp from 0 to 65,535 turned by five degrees
# has 247 as its greatest value, and 256 grey values further is the same grey again. A turn by 90 or 180 degrees copies, and is right.
# resize with the same filters is right, too. 12.0, 11.3 and 10.4 turn it alike.
# Output seen: nearest 65535; bilinear 245; bicubic 247; by 90 degrees 65535; resize 64969; as float 65535
# Date: 2026-11-30.
#
# Why it matters here: radiographs are PNG files of 16 bits, and a turn by a few degrees with bilinear interpolation is the
# commonest augmentation of them. The encoder then learns from noise of the lower byte while its validation images, which
# are not turned, are right; nothing warns. Turn float32 (mode F), where the same call is right, or use OpenCV.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet pillow==13.0.0 numpy==2.4.6
env/bin/python - <<'PY'
import numpy as np
import PIL
from PIL import Image
from PIL.Image import Resampling

print("pillow", PIL.__version__)
ramp = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (64, 1))
film = Image.fromarray(ramp)
assert film.mode == "I;16"


def largest(picture):
    return int(np.asarray(picture).max())


found = {kind.name: largest(film.rotate(5, kind)) for kind in Resampling if kind <= Resampling.BICUBIC and kind != 1}
found["by 90 degrees"] = largest(film.rotate(90, Resampling.BICUBIC))
found["resize"] = largest(film.resize((32, 32), Resampling.BICUBIC))
found["as float"] = round(largest(film.convert("F").rotate(5, Resampling.BILINEAR)))
print(found)
assert found["NEAREST"] == found["by 90 degrees"] == 65535
assert found["BILINEAR"] < 256 and found["BICUBIC"] < 256, "sixteen bits are turned as such now"
assert found["resize"] > 60000 and found["as float"] > 60000
PY
