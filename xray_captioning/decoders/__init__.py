"""Features and tokens in, logits out."""

from xray_captioning.data.features import Features
from xray_captioning.decoders.decoder import Decoder
from xray_captioning.decoders.model import DECODERS, CaptionModel, check_decoder

__all__ = ["DECODERS", "CaptionModel", "Decoder", "Features", "check_decoder"]
