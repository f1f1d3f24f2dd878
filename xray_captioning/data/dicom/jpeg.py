"""JPEG Lossless, 12-bit JPEG and HTJ2K for pydicom, which has no free decoder for them.

A decoder plugin as pydicom's guide to "decoder plugins" describes it, over libjpeg-turbo and
OpenJPEG by way of imagecodecs.
"""

from functools import cache
from importlib.util import find_spec
from typing import Any

from pydicom import uid
from pydicom.pixels import get_decoder

_HIGH_THROUGHPUT = (uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K)
_OTHERS = (uid.JPEGLosslessSV1, uid.JPEGLossless, uid.JPEGExtended12Bit)
SYNTAXES = _OTHERS + _HIGH_THROUGHPUT
DECODER_DEPENDENCIES = dict.fromkeys(SYNTAXES, ("imagecodecs",))


def is_available(syntax: str) -> bool:
    """Tell whether frames of a transfer syntax can be decoded here."""
    return syntax in SYNTAXES and find_spec("imagecodecs") is not None


def decode_frame(frame: bytes, runner: Any) -> bytearray:
    """Decode JPEG (ITU-T T.81) or HTJ2K (T.814) to 8 or 16 bits, samples of a pixel together.

    pydicom's DecodeRunner receives their layout. imagecodecs fills up a cut frame and says nothing.
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
