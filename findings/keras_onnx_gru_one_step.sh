#!/usr/bin/env bash
# Keras 3.15.1 (PyTorch backend, torch 2.13.0), export to ONNX of a GRU or LSTM of free length,
# run by onnxruntime 1.32.0.
#
# Guess: the loop over time becomes an ONNX Scan, Loop or GRU, or the export is refused.
# What happened: the export succeeds and declares a free time axis, but the loop was unrolled for one
# step. Any sequence gives the answer for its first token alone, and with return_sequences one step
# comes back for five. There are tracer warnings, no error. SimpleRNN fails only when it is run. With
# a fixed length (8, with masked padding) the exported model is right to 1e-6.
# Output seen: input declared (batch, free); five tokens: equal to the first token's answer to 1e-6,
#              away from the five tokens' answer by more than 1e-3; sequences (1, 1, 5); fixed: equal.
# Date: 2026-11-28.
#
# Why it matters here: recurrent caption decoders have this very shape. A check with one token, the
# usual smoke test of a decoder step, passes; the captions are wrong. Export one step with its state,
# or a fixed length, and compare on several lengths.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet keras==3.15.1 torch==2.13.0 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.32.0 numpy==2.4.6
env/bin/python - <<'PY'
import importlib.metadata as md
import logging
import os
import warnings

os.environ["KERAS_BACKEND"] = "torch"
warnings.simplefilter("ignore")
import keras
import numpy as np
import onnxruntime
from keras import layers

logging.disable(logging.WARNING)
names = ("keras", "torch", "onnx", "onnxscript", "onnxruntime")
print({name: md.version(name) for name in names})
tokens = np.array([[3, 4, 5, 6, 7]], "int32")


def both(layer, length, tokens, **more):
    keras.utils.set_random_seed(0)
    words = layers.Input((length,), dtype="int32")
    x = layers.Embedding(20, 6, mask_zero=length is not None)(words)
    model = keras.Model(words, layer(5, **more)(x))
    model(np.ones((1, length or 4), "int32"))
    model.export("model.onnx", format="onnx", verbose=False)
    session = onnxruntime.InferenceSession("model.onnx")
    given = session.get_inputs()[0]
    print(layer.__name__, "input", given.shape, more)
    right = lambda x: keras.ops.convert_to_numpy(model(x))
    return session.run(None, {given.name: tokens})[0], right(tokens), right(tokens[:, :1])


for layer in (layers.GRU, layers.LSTM):
    seen, right, first = both(layer, None, tokens)
    print("  from the first token", abs(seen - first).max(), "from all", abs(seen - right).max())
    assert abs(seen - first).max() < 1e-6 and abs(seen - right).max() > 1e-3
seen, right, _ = both(layers.GRU, None, tokens, return_sequences=True)
print("  sequences", seen.shape, "for", right.shape)
assert seen.shape == (1, 1, 5) and right.shape == (1, 5, 5)
seen, right, _ = both(layers.GRU, 8, np.array([[3, 4, 5, 6, 7, 0, 0, 0]], "int32"))
print("  fixed length", abs(seen - right).max())
assert abs(seen - right).max() < 1e-6
PY
