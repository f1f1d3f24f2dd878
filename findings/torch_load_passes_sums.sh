#!/usr/bin/env bash
# PyTorch 2.13.0, torch.load of a checkpoint in which one byte of a weight has changed.
#
# Guess: a .pt file is a zip archive with a CRC-32 of every member, so that a damaged one is refused.
# What happened: the changed weight is loaded, with mmap or without, with weights_only or without, and nothing is said; Python's
# zipfile finds the member that does not fit its sum. The sums are written, and never compared.
# Output seen: zipfile: weights/data/0 is damaged; loaded 0.25 in the place of 1.0 (all three ways)
# Date: 2026-11-30.
#
# Why it matters here: published encoders are files of a hundred megabytes and more that are downloaded, copied and kept for years.
# One whose blocks got lost has all names and shapes and makes features a little wrong. Compare a SHA-256 where one is
# published, or let zipfile.ZipFile(path).testzip() look first; it takes a second.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet torch==2.13.0 numpy==2.4.6
env/bin/python - <<'PY'
import zipfile
from pathlib import Path

import torch

print("torch", torch.__version__)
weights = {"conv.weight": torch.ones(64)}
torch.save(weights, "weights.pt")
data = bytearray(Path("weights.pt").read_bytes())
data[bytes(data).index(weights["conv.weight"].numpy().tobytes()) + 3] ^= 1  # of the first number's exponent
Path("damaged.pt").write_bytes(data)
assert zipfile.ZipFile("weights.pt").testzip() is None
damaged = zipfile.ZipFile("damaged.pt").testzip()
print("zipfile:", damaged, "is damaged")
assert damaged is not None
for how in ({}, {"mmap": True}, {"weights_only": False}):
    found = torch.load("damaged.pt", **how)["conv.weight"]
    print("loaded", float(found[0]), "in the place of", float(found[1]), how)
    assert float(found[0]) == 0.25, "sums are compared now"
PY
