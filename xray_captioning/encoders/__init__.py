"""Images (batch, views, height, width, 3) in, features (batch, regions, channels) out."""

from xray_captioning.encoders.backbones import ENCODERS
from xray_captioning.encoders.encoder import Encoder, FindingModel

__all__ = ["ENCODERS", "Encoder", "FindingModel"]
