#!/usr/bin/env bash
# keras-hub 0.32.0 (JAX backend), BeamSampler: what it does with a text that has ended before the others.
#
# Guess: a beam that has written the end token keeps its probability; with two beams the text found is at least
# as likely as the greedy one.
# What happened: the beam goes on to be multiplied by the probability of what would follow the end token, until every
# beam has ended or the length is used up. Greedy search finds "A end", of probability .6; two beams hold
# the same text, let it sink to .15, .04 … and return one of .4 that never ends.
# Output seen: greedy [0, 2, 1, 0, 0, 0], two beams [0, 3, 3, 3, 3, 3].
# Date: 2026-11-29.
#
# Why it matters here: more beams can find a less likely text, so "beam search does not help" may be said of the
# sampler and not of the model. What a decoder says after the end is not trained. Our search sets finished texts aside.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet keras-hub==0.32.0 keras==3.15.1 jax==0.10.2
env/bin/python - <<'PY'
import importlib.metadata as md
import os

os.environ["KERAS_BACKEND"] = "jax"
import keras_hub
import numpy as np
from keras import ops

print({name: md.version(name) for name in ("keras-hub", "keras", "jax")})
START, END, A, B = 0, 1, 2, 3
# The chance of each next word (columns) after a word (rows).
NEXT = np.array([[0, 0, 0.6, 0.4], [0.25, 0.25, 0.25, 0.25], [0, 1, 0, 0], [0, 0, 0, 1]], "float32")


def step(prompt, cache, index):
    last = ops.take_along_axis(prompt, ops.broadcast_to(index - 1, (prompt.shape[0], 1)), axis=1)[:, 0]
    return ops.log(ops.take(ops.convert_to_tensor(NEXT), last, axis=0) + 1e-9), None, cache


def written(sampler):
    prompt = np.zeros((1, 6), "int32")
    mask = np.array([[True] + [False] * 5])
    return np.asarray(sampler(step, prompt, index=1, mask=mask, stop_token_ids=[END])).tolist()[0]


greedy = written(keras_hub.samplers.GreedySampler())
beams = written(keras_hub.samplers.BeamSampler(num_beams=2))
print("greedy", greedy, "two beams", beams)
assert greedy[:3] == [START, A, END], "greedy search finds another text"
assert beams == [START, B, B, B, B, B], "a finished text keeps its probability"
PY
