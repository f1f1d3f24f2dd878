"""Arrays out of other people's weight files. Nothing that a file holds is executed."""

from xray_captioning.checkpoints.arrays import StoredArray, looks_like, mismatches, shortened

# The one format so far. Others join it here, each known by the first bytes of a file.
from xray_captioning.checkpoints.keras2 import is_keras2
from xray_captioning.checkpoints.keras2 import read_keras2 as read_arrays

__all__ = ["StoredArray", "is_keras2", "looks_like", "mismatches", "read_arrays", "shortened"]
