#!/usr/bin/env bash
# pydicom 3.0.2: apply_color_lut on an 8-bit palette and 16-bit pixels beyond its end.
#
# Guess: the standard says that values above the last one mapped get the last entry; so does pydicom.
# What happened: the index is cast to the type of the table's entries before it is clipped: 256 becomes 0
# and 300 becomes 44, while 250 is clipped to the last entry as it should be. Nothing is said.
# Output seen: table of 200 entries, pixels 199, 250, 256, 300: entries 199, 199, 0, 44.
# Date: 2026-11-28.
#
# Why it matters here: PALETTE COLOR secondary captures of radiographs exist, and the brightest pixels
# (bone, markers, metal) turn black first, which a captioner takes for air. The example is legal, and one
# line of NumPy (`table[np.minimum(pixels, len(table) - 1)]`) does it right.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet pydicom==3.0.2 numpy==2.4.6
env/bin/python - <<'PY'
import importlib.metadata as md

import numpy as np
from pydicom.dataset import Dataset
from pydicom.pixels import apply_color_lut

print({name: md.version(name) for name in ("pydicom", "numpy")})
entries = np.arange(200, dtype=np.uint8)
palette = Dataset()
palette.PhotometricInterpretation = "PALETTE COLOR"
palette.SamplesPerPixel, palette.BitsAllocated, palette.PixelRepresentation = 1, 16, 0
for colour in ("Red", "Green", "Blue"):
    setattr(palette, f"{colour}PaletteColorLookupTableDescriptor", [200, 0, 8])
    setattr(palette, f"{colour}PaletteColorLookupTableData", entries.tobytes())
pixels = np.array([[199, 250, 256, 300]], np.uint16)
seen = apply_color_lut(pixels, palette)[0, :, 0].tolist()
print("pixels", pixels[0].tolist(), "-> entries", seen)
assert seen == [199, 199, 0, 44], "the index no longer wraps"
PY
