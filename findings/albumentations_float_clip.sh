#!/usr/bin/env bash
# albumentations 2.0.8 on one-channel pictures as float outside 0 to 1, and as 16-bit.
#
# Guess: filters keep the range of a float picture; only brightness and noise, which have a scale,
# clip it; a transform that takes 16-bit input gives 16-bit output.
# What happened: GaussianBlur, MotionBlur, MedianBlur and Sharpen cut a picture of -2 to 2 down to 0 to
# 1, while Blur, Affine and ElasticTransform keep its range; nothing is said. RandomGamma turns 16 bits
# into float64 with the power taken of the raw numbers, nine times the 16-bit maximum.
# Output seen: GaussianBlur, MotionBlur, MedianBlur, Sharpen 0 to 1; Blur -1.958 to 1.958;
#              16-bit gamma 120: float64, 0 to 602238 for 0 to 65535.
# Date: 2026-11-28.
#
# Why it matters here: augmenting after normalisation, or on the -1024 to 1024 pictures that published
# X-ray encoders take, loses everything darker than the mean for those samples only, at the augmentation's
# probability, so that training looks merely harder. Augment 8-bit pictures, then normalise.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet albumentations==2.0.8 numpy==2.4.6
env/bin/python - <<'PY'
import importlib.metadata as md
import warnings
import albumentations as A
import numpy as np

warnings.simplefilter("ignore")
print({name: md.version(name) for name in ("albumentations", "albucore", "numpy")})
ramp = np.tile(np.linspace(-2, 2, 64, dtype=np.float32), (64, 1))
wide = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (64, 1))


def ends(transform, image):
    seen = A.Compose([transform], seed=0)(image=image)["image"]
    print(type(transform).__name__, image.dtype, "->", seen.dtype, seen.min(), seen.max())
    return float(seen.min()), float(seen.max()), str(seen.dtype)


for transform in (
    A.GaussianBlur(sigma_limit=(1, 1), p=1),
    A.MotionBlur(3, p=1),
    A.MedianBlur(3, p=1),
    A.Sharpen(p=1),
):
    assert ends(transform, ramp)[:2] == (0, 1), "it no longer clips to 0..1"
for transform in (A.Blur((3, 3), p=1), A.Affine(rotate=(5, 5), p=1), A.ElasticTransform(p=1)):
    low, high, _ = ends(transform, ramp)
    assert low < -1.8 and high > 1.8
low, high, kind = ends(A.RandomGamma((120, 120), p=1), wide)
assert kind == "float64" and high > 9 * 65535
PY
