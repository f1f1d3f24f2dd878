"""JPEG Lossless, 12-bit JPEG and HTJ2K for pydicom, which has no free decoder for them.

A decoder plugin as pydicom's guide to "decoder plugins" describes it, over libjpeg-turbo and
OpenJPEG by way of imagecodecs.
"""

from functools import cache
from importlib.util import find_spec
from typing import Any

from pydicom.pixels import get_decoder
from pydicom.uid import (
    HTJ2K,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
)

_HIGH_THROUGHPUT = (HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K)
SYNTAXES = (JPEGLosslessSV1, JPEGLossless, JPEGExtended12Bit, *_HIGH_THROUGHPUT)
DECODER_DEPENDENCIES = dict.fromkeys(SYNTAXES, ("imagecodecs",))


def is_available(uid: str) -> bool:
    """Tell whether frames of a transfer syntax can be decoded here."""
    return uid in SYNTAXES and find_spec("imagecodecs") is not None


def decode_frame(frame: bytes, runner: Any) -> bytearray:
    """Decode a frame to pixels of 8 or 16 bits, samples of a pixel together.

    It is JPEG (ITU-T T.81) or High-Throughput JPEG 2000 (T.814). pydicom's DecodeRunner receives
    their layout. imagecodecs raises RuntimeError where the frame is damaged; it fills up a cut one
    and reports nothing.
    """
    from imagecodecs import jpeg2k_decode, jpeg8_decode

    decode = jpeg2k_decode if runner.transfer_syntax in _HIGH_THROUGHPUT else jpeg8_decode
    pixels = decode(frame)
    runner.set_option("bits_allocated", 8 * pixels.itemsize)
    if pixels.ndim == 3:
        runner.set_option("planar_configuration", 0)
        runner.set_option("photometric_interpretation", "RGB")
    return bytearray(pixels.tobytes())


@cache
def add_plugin() -> None:
    """Register this plugin with pydicom, once; to be called by one thread at a time."""
    for syntax in SYNTAXES:
        get_decoder(syntax).add_plugin("imagecodecs", (__name__, decode_frame.__name__))
