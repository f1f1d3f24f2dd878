#!/usr/bin/env bash
# Keras 3.15.1, keras.layers.MultiHeadAttention with a query that may look at nothing, under TensorFlow 2.21 and JAX 0.10.
#
# Guess: return_attention_scores=True returns the scores beside the output, which stays the same.
# What happened: the layer then computes otherwise. Where all that a query could look at is masked, its scores are 0 and its output
# is the bias of the last projection; without scores it gets the mean of everything that is masked. With any
# key left to look at both agree. keras.layers.Attention takes the mean in either case.
# Output seen: rows with a key agree; without one: asked 0, not asked as far away as .5 to 1
# Date: 2026-11-30.
#
# Why it matters here: studies lack views. A decoder that attends over the regions of a view which is not there writes
# one caption when its maps are drawn and another when they are not, and in the latter case reads the padding that the mask was
# to hide. Let every query see something, such as a token of its own, or mask the layer's output, too.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet keras==3.15.1 tensorflow==2.21.0 jax==0.10.2 numpy==2.4.6
cat > attend.py <<'PY'
import importlib.metadata as md
import os
import sys

os.environ["KERAS_BACKEND"], os.environ["TF_CPP_MIN_LOG_LEVEL"] = sys.argv[1], "3"
import keras
import numpy as np

rng = np.random.default_rng(0)
words, regions = (rng.normal(size=(1, length, 8)).astype(np.float32) for length in (2, 4))
mask = np.array([[[True, True, False, False], [False] * 4]])  # the second word may look at no region
keras.utils.set_random_seed(0)
layer = keras.layers.MultiHeadAttention(num_heads=2, key_dim=4)
plain = keras.ops.convert_to_numpy(layer(words, regions, attention_mask=mask))[0]
asked, scores = layer(words, regions, attention_mask=mask, return_attention_scores=True)
asked, scores = keras.ops.convert_to_numpy(asked)[0], keras.ops.convert_to_numpy(scores)[0]
apart = np.abs(plain - asked).max(axis=1)
print(sys.argv[1], md.version("keras"), "apart by word", [f"{far:.4f}" for far in apart], "its scores", scores[0, 1].tolist())
assert apart[0] < 1e-5
assert apart[1] > 0.05, "asking for the scores changes nothing now"
assert not scores[:, 1].any() and np.abs(asked[1]).max() < 1e-6
mean = layer(words, regions)  # builds nothing new; only shows that the layer itself is not at fault
assert np.isfinite(keras.ops.convert_to_numpy(mean)).all()
other = rng.normal(size=regions.shape).astype(np.float32)  # what is masked is another study's
leaked = keras.ops.convert_to_numpy(layer(words[:, 1:], other, attention_mask=mask[:, 1:]))[0, 0]
assert np.abs(leaked - plain[1]).max() > 0.05, "what is masked is not read now"
PY
for backend in tensorflow jax; do env/bin/python attend.py $backend; done
