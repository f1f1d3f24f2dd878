#!/usr/bin/env bash
# safetensors 0.8.0, safetensors.numpy.save with arrays that are views: transposed, reversed, every other column.
#
# Guess: what is loaded is what was saved, as with numpy.savez; safetensors.torch refuses tensors that are not contiguous.
# What happened: the bytes that lie at the view's address are written under the view's shape, whatever its steps: a transposed
# matrix comes back with the right shape and its numbers in the wrong places, of every other column come the first ones, and
# of a reversed array not even its own numbers come. No error, no warning; save_file does the same.
# Output seen: transposed False, every other column [[0.0, 1.0], [2.0, 3.0]] in the place of [[0.0, 2.0], [3.0, 5.0]]; copied True
# Date: 2026-11-30.
#
# Why it matters here: kernels of PyTorch are (out, in, height, width), those of Keras (height, width, in, out), so who converts
# an encoder transposes every kernel, and numpy.transpose returns a view. The file then has all names and shapes right and
# loads everywhere; only its features are noise. Save numpy.ascontiguousarray of each, and compare an output.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet safetensors==0.8.0 numpy==2.4.6
env/bin/python - <<'PY'
import importlib.metadata as md

import numpy as np
from safetensors.numpy import load, load_file, save, save_file

print({name: md.version(name) for name in ("safetensors", "numpy")})
kernel = np.arange(6, dtype=np.float32).reshape(2, 3)


def kept(array):
    return load(save({"kernel": array}))["kernel"]


turned, every_other = kernel.T, kernel[:, ::2]
print("transposed", bool((kept(turned) == turned).all()), "every other column", kept(every_other).tolist())
print("in the place of", every_other.tolist(), "copied", bool((kept(turned.copy()) == turned).all()))
assert kept(turned).shape == turned.shape and not (kept(turned) == turned).all(), "views are saved as they are now"
assert kept(every_other).tolist() == [[0, 1], [2, 3]]
assert (kept(np.ascontiguousarray(turned)) == turned).all() and (kept(turned.copy()) == turned).all()
save_file({"kernel": turned}, "weights.safetensors")
assert not (load_file("weights.safetensors")["kernel"] == turned).all()
np.savez("weights.npz", kernel=turned)
assert (np.load("weights.npz")["kernel"] == turned).all()
PY
