"""Arrays out of other people's weight files. Nothing that a file holds is executed."""

from xray_captioning.checkpoints.arrays import StoredArray, mismatches
from xray_captioning.checkpoints.hdf5 import read_keras2
from xray_captioning.checkpoints.reading import read_arrays

__all__ = ["StoredArray", "mismatches", "read_arrays", "read_keras2"]
