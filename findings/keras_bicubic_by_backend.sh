#!/usr/bin/env bash
# Keras 3.15.1, keras.ops.image.resize with interpolation="bicubic" under TensorFlow 2.21, JAX 0.10 and PyTorch 2.13.
#
# Guess: one operation, one result: the three backends agree to float32, as they do for bilinear and nearest.
# What happened: without antialiasing, which is the default, PyTorch's pixels are others, by up to .08 in a picture of random
# grey values in 0..1, because its cubic kernel has another parameter (-.75 in the place of -.5). With antialias=True PyTorch
# takes -.5, too, and all three agree, also where the picture grows and nothing is to be smoothed.
# Output seen: bilinear 0.0000 and 0.0000; bicubic 0.0000 and 0.0808; bicubic antialiased 0.0000 and 0.0000
# Date: 2026-11-30.
#
# Why it matters here: Vision Transformers stretch their learned positions with bicubic interpolation, and films are
# resized so. Weights that were published for PyTorch expect its kernel, those for TensorFlow the other one: the same Keras
# program gives one encoder other features on another backend, and neither raises. Compare with the
# publisher's own output, or ask for antialias=True where a picture grows.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet keras==3.15.1 tensorflow==2.21.0 jax==0.10.2 torch==2.13.0 numpy==2.4.6
cat > resize.py <<'PY'
import os
import sys

os.environ["KERAS_BACKEND"], os.environ["TF_CPP_MIN_LOG_LEVEL"] = sys.argv[1], "3"
import keras
import numpy as np

picture = np.random.default_rng(0).random((1, 37, 37, 1), np.float32)  # as many positions as a large ViT has
for kind, smooth in (("bilinear", False), ("bicubic", False), ("bicubic", True)):
    found = keras.ops.image.resize(picture, (64, 64), interpolation=kind, antialias=smooth)
    np.save(f"{sys.argv[1]} {kind} {smooth}.npy", keras.ops.convert_to_numpy(found))
PY
for backend in tensorflow jax torch; do env/bin/python resize.py $backend; done
env/bin/python - <<'PY'
import importlib.metadata as md

import numpy as np

print({name: md.version(name) for name in ("keras", "tensorflow", "jax", "torch")})
for kind, smooth in (("bilinear", False), ("bicubic", False), ("bicubic", True)):
    theirs = np.load(f"tensorflow {kind} {smooth}.npy")
    apart = {b: float(np.abs(theirs - np.load(f"{b} {kind} {smooth}.npy")).max()) for b in ("jax", "torch")}
    print(kind, "antialiased" * smooth, {backend: f"{far:.4f}" for backend, far in apart.items()})
    assert apart["jax"] < 1e-3
    assert (apart["torch"] > 0.05) == (kind == "bicubic" and not smooth), "PyTorch's kernel is another one now"
PY
