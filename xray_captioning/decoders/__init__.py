"""Features and tokens in, logits out."""

from xray_captioning.decoders.decoder import Decoder, Features
from xray_captioning.decoders.model import DECODERS, CaptionModel, check_decoder

__all__ = ["DECODERS", "CaptionModel", "Decoder", "Features", "check_decoder"]
