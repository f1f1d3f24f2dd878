#!/usr/bin/env bash
# Keras 3.15.1, keras.ops.argmax and keras.ops.top_k where one of the numbers is nan, under TensorFlow 2.21 and JAX 0.10.
#
# Guess: both backends take nan for the largest, as numpy.argmax does, so that a broken score comes out on top and is seen.
# What happened: under JAX it does. Under TensorFlow argmax passes over nan and returns the largest of the others; top_k returns
# nan first and then leaves out numbers that are larger than those it gives: of 1, nan, 3, 2 it gives nan, 3, 1.
# Output seen: jax argmax 1, top_k [nan, 3, 2]; tensorflow argmax 2, top_k [nan, 3, 1]
# Date: 2026-11-30.
#
# Why it matters here: logits become nan where training in half precision overflowed. Greedy search under TensorFlow then writes
# whole sentences from what is left, as if nothing were wrong, and a beam drops its best candidates; under JAX the same weights
# write nan's token at once. Check that logits are finite before the search.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet keras==3.15.1 tensorflow==2.21.0 jax==0.10.2 numpy==2.4.6
cat > best.py <<'PY'
import importlib.metadata as md
import os
import sys

os.environ["KERAS_BACKEND"], os.environ["TF_CPP_MIN_LOG_LEVEL"] = sys.argv[1], "3"
import keras
import numpy as np

logits = np.array([[1.0, np.nan, 3.0, 2.0]], np.float32)
best = int(keras.ops.convert_to_numpy(keras.ops.argmax(logits, axis=-1))[0])
three = keras.ops.convert_to_numpy(keras.ops.top_k(logits, 3)[0])[0].tolist()
print(sys.argv[1], md.version("keras"), "argmax", best, "top_k", three)
assert int(logits.argmax()) == 1  # NumPy
assert best == {"tensorflow": 2, "jax": 1}[sys.argv[1]], "nan is ranked otherwise now"
assert np.isnan(three[0]) and three[1:] == {"tensorflow": [3, 1], "jax": [3, 2]}[sys.argv[1]]
PY
for backend in tensorflow jax; do env/bin/python best.py $backend; done
