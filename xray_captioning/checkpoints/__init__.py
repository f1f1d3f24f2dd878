"""Arrays out of other people's weight files. Nothing that a file holds is executed."""

from xray_captioning.checkpoints.arrays import StoredArray, looks_like, mismatches, shortened
from xray_captioning.checkpoints.hdf5 import is_hdf5, is_keras2, read_keras2
from xray_captioning.checkpoints.reading import read_arrays

__all__ = [
    "StoredArray",
    "is_hdf5",
    "is_keras2",
    "looks_like",
    "mismatches",
    "read_arrays",
    "read_keras2",
    "shortened",
]
