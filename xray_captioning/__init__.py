"""Write the findings or impression of a chest X-ray, and measure honestly how well.

The names below are imported when they are first used, so that importing the package loads
neither Keras nor TensorFlow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from xray_captioning import legacy
    from xray_captioning.captioner.captioner import Caption, Captioner
    from xray_captioning.config import Config, load_preset
    from xray_captioning.data.sources.reading import read_studies
    from xray_captioning.data.splits import split_studies
    from xray_captioning.metrics.labeler import label_report
    from xray_captioning.metrics.scores import score
    from xray_captioning.phantom.dataset import write_phantoms
    from xray_captioning.text.cleaning import clean
    from xray_captioning.text.tokenizer import Tokenizer

_HOMES = {
    "Caption": "captioner.captioner",
    "Captioner": "captioner.captioner",
    "Config": "config",
    "Tokenizer": "text.tokenizer",
    "clean": "text.cleaning",
    "label_report": "metrics.labeler",
    "load_preset": "config",
    "read_studies": "data.sources.reading",
    "score": "metrics.scores",
    "split_studies": "data.splits",
    "write_phantoms": "phantom.dataset",
}

__all__ = [
    "Caption",
    "Captioner",
    "Config",
    "Tokenizer",
    "clean",
    "label_report",
    "legacy",
    "load_preset",
    "read_studies",
    "score",
    "split_studies",
    "write_phantoms",
]


def __getattr__(name: str) -> Any:
    if name == "legacy":
        return importlib.import_module("xray_captioning.legacy")
    if name not in _HOMES:
        raise AttributeError(f"module 'xray_captioning' has no attribute {name!r}")
    return getattr(importlib.import_module(f"xray_captioning.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
