#!/usr/bin/env bash
# Keras 3.15.1 (JAX backend), keras.applications: where a region of the last feature map looks.
#
# Guess: for 224 pixels and a 7 x 7 map each region looks at the middle of its own 32 x 32 square, or
# all networks deviate alike, since all halve five times.
# What happened: MobileNetV2 and EfficientNetV2 look almost half a region down and to the right (a stride
# of two, padded as "same", pads behind only), ResNet50 and ResNet50V2 as far up and to the left (they pad before
# the first layer, and their later strides take the first of two), DenseNet121 nowhere else: it halves by
# averaging. Between two networks of one library the same cell of the map means places a region apart.
# Output seen: [.45, .44], [-.47, -.48], [-.46, -.47], [-.03, -.04], [.44, .41] of a region (random weights).
# Date: 2026-11-28.
#
# Why it matters here: attention and class activation are drawn by enlarging the map over the image.
# What is drawn so lies half a region, 16 of 224 pixels, beside what was seen, to one side or the
# other by network, and a pointing game counts that as a miss. Measure the shift and move the map.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet keras==3.15.1 jax==0.10.2 numpy==2.4.6
env/bin/python - <<'PY'
import importlib.metadata as md
import os

os.environ["KERAS_BACKEND"] = "jax"
import jax
import keras
import numpy as np

print({name: md.version(name) for name in ("keras", "jax", "numpy")})
keras.utils.set_random_seed(0)


def aside(name):
    """How far below and right of its own square the middle region looks, in regions, by the gradient."""
    network = getattr(keras.applications, name)(weights=None, include_top=False, input_shape=(224, 224, 3))
    weights = [v.value for v in network.trainable_variables], [v.value for v in network.non_trainable_variables]

    def middle(pixels):
        return network.stateless_call(*weights, pixels)[0][0, 3, 3].sum()

    slope = jax.jit(jax.grad(middle))
    seen = sum(np.abs(slope(np.random.default_rng(i).random((1, 224, 224, 3), "float32"))[0]).sum(-1) for i in range(4))
    where = (np.arange(224) + 0.5) / 32 - 3.5
    found = [round(float((seen.sum(axis) * where).sum() / seen.sum()), 2) for axis in (1, 0)]
    print(name, found)
    return found


found = {name: aside(name) for name in ("MobileNetV2", "ResNet50", "ResNet50V2", "DenseNet121", "EfficientNetV2B0")}
assert all(0.38 < x < 0.5 for name in ("MobileNetV2", "EfficientNetV2B0") for x in found[name]), found
assert all(-0.5 < x < -0.42 for name in ("ResNet50", "ResNet50V2") for x in found[name]), found
assert all(abs(x) < 0.1 for x in found["DenseNet121"]), found
PY
