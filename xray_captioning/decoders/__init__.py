"""Features and tokens in, logits out."""

from xray_captioning.decoders.decoder import Decoder, Features
from xray_captioning.decoders.model import DECODERS, CaptionModel, build_decoder, check_decoder

__all__ = ["DECODERS", "CaptionModel", "Decoder", "Features", "build_decoder", "check_decoder"]
