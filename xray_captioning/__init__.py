"""Write the findings or impression of a chest X-ray, and measure honestly how well.

The names below are imported when they are first used, so that importing the package loads
neither Keras nor TensorFlow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from xray_captioning import legacy as legacy
    from xray_captioning.captioner.caption import Caption as Caption
    from xray_captioning.captioner.captioner import Captioner as Captioner
    from xray_captioning.comparison.evaluate import evaluate as evaluate
    from xray_captioning.config import Config as Config
    from xray_captioning.config import load_preset as load_preset
    from xray_captioning.data.sources.reading import read_studies as read_studies
    from xray_captioning.data.splits import split_studies as split_studies
    from xray_captioning.decoders import Decoder as Decoder
    from xray_captioning.encoders import Encoder as Encoder
    from xray_captioning.metrics.labeler import explain_report as explain_report
    from xray_captioning.metrics.labeler import label_report as label_report
    from xray_captioning.metrics.scores import score as score
    from xray_captioning.phantom.dataset import write_phantoms as write_phantoms
    from xray_captioning.text.cleaning import clean as clean
    from xray_captioning.text.sections import split_report as split_report
    from xray_captioning.text.tokenizer import Tokenizer as Tokenizer
    from xray_captioning.training.captions import train as train
    from xray_captioning.training.encoder import train_encoder as train_encoder

_HOMES = {
    "Caption": "captioner.caption",
    "Captioner": "captioner.captioner",
    "Config": "config",
    "Decoder": "decoders",
    "Encoder": "encoders",
    "Tokenizer": "text.tokenizer",
    "clean": "text.cleaning",
    "evaluate": "comparison.evaluate",
    "explain_report": "metrics.labeler",
    "label_report": "metrics.labeler",
    "load_preset": "config",
    "read_studies": "data.sources.reading",
    "score": "metrics.scores",
    "split_report": "text.sections",
    "split_studies": "data.splits",
    "train": "training.captions",
    "train_encoder": "training.encoder",
    "write_phantoms": "phantom.dataset",
}
__all__ = ["legacy", *_HOMES]


def __getattr__(name: str) -> Any:
    if name == "legacy":
        return importlib.import_module("xray_captioning.legacy")
    if name not in _HOMES:
        raise AttributeError(f"module 'xray_captioning' has no attribute {name!r}")
    return getattr(importlib.import_module(f"xray_captioning.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
