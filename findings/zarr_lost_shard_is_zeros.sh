#!/usr/bin/env bash
# zarr 3.1.6, an array whose shards have checksums, and of which one file is gone.
#
# Guess: shards carry a CRC-32C, so that an array which is not whole is refused as one that is damaged is.
# What happened: a shard that is cut off raises; one that is missing is read as zeros, without a word, because by the format what is not
# there was never written. Arrays of the same shape with nothing in them and with everything lost look alike;
# nchunks_initialized is the only thing that tells.
# Output seen: cut: ValueError; missing: 12 studies of 24 are zeros, 12 of 24 chunks there
# Date: 2026-11-30.
#
# Why it matters here: features of many studies are kept in Zarr, where any number of processes write and a bucket holds each shard as an
# object. A copy that broke off opens like a whole one, and a decoder is trained, or captions are written, on studies
# without an image. Count the chunks after copying, or write with fill_value nan and look for it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet zarr==3.1.6 numpy==2.4.6
env/bin/python - <<'PY'
import shutil
from pathlib import Path

import numpy as np
import zarr

print("zarr", zarr.__version__)
features = np.random.default_rng(0).random((24, 4, 8)).astype(np.float32) + 1
array = zarr.create_array("features.zarr", shape=features.shape, dtype="float32", chunks=(1, 4, 8), shards=(12, 4, 8))
array[:] = features
shard = Path("features.zarr/c/1/0/0")
shutil.copytree("features.zarr", "cut.zarr")
cut = Path("cut.zarr") / shard.relative_to("features.zarr")
cut.write_bytes(cut.read_bytes()[:-9])
try:
    zarr.open_array("cut.zarr", mode="r")[:]
    raise SystemExit("a shard that is cut off is read now")
except ValueError as error:
    print("cut: ValueError", str(error)[:60])
shard.unlink()
opened = zarr.open_array("features.zarr", mode="r")
zeros = int((opened[:] == 0).all(axis=(1, 2)).sum())
print(f"missing: {zeros} studies of {len(features)} are zeros, {opened.nchunks_initialized} of {opened.nchunks} chunks there")
assert zeros == 12, "a missing shard is told now"
assert opened.nchunks_initialized < opened.nchunks
PY
