#!/usr/bin/env bash
# Keras 3.15.1 (TensorFlow 2.21.0, Grain 0.2.16, Pillow 13.0.0), on a grey PNG of 16 bits.
#
# Guess: load_img clips such a film; image_dataset_from_directory scales it to 255, whichever way it reads.
# What happened: its answer depends on `format`. "tf" keeps the high byte, so a ramp has quartiles 64, 128,
# 191; "grain" reads through Pillow, as load_img does, so that in colour everything above 255 is white, and
# in grey the numbers are those of the file, up to 65535. Nothing is warned of.
# Output seen: load_img rgb 255 255 255, grayscale 16383 32767 49151; image_dataset_from_directory tf 64 128
# 191 both ways, grain rgb 255 255 255, grayscale 16383 32767 49151.
# Date: 2026-11-29.
#
# Why it matters here: public sets of chest films are PNG of 16 bits. With the default colour mode load_img
# and the Grain pipeline give white pages to a network, and a model that was trained through one format is
# shown other numbers through the other. Decode such files by something that knows their depth.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet keras==3.15.1 tensorflow-cpu==2.21.0 grain==0.2.16 pillow==13.0.0 numpy==2.4.6
env/bin/python - <<'PY'
import importlib.metadata as md
import os

os.environ |= {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
import keras
import numpy as np
from PIL import Image

print({name: md.version(name) for name in ("keras", "tensorflow-cpu", "grain", "pillow", "numpy")})
os.makedirs("films")
ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
Image.fromarray(ramp).save("films/a.png")


def shown(how, *what, pixels):
    found = [round(float(q)) for q in np.percentile(np.asarray(pixels, np.float32), [25, 50, 75])]
    print(*what, how, *found)
    return found


for how, here in (("rgb", [255] * 3), ("grayscale", [16383, 32767, 49151])):
    assert shown(how, "load_img", pixels=keras.utils.load_img("films/a.png", color_mode=how)) == here
    for form, there in (("tf", [64, 128, 191]), ("grain", here)):
        options = {"labels": None, "color_mode": how, "image_size": (64, 64), "batch_size": 1, "format": form}
        batch = next(iter(keras.utils.image_dataset_from_directory("films", verbose=False, **options)))
        assert shown(how, "image_dataset_from_directory", form, pixels=batch) == there, "read otherwise now"
PY
