"""The files of the older Keras projects: weights, tokenizers and tables, made usable here."""

from typing import Any

from xray_captioning.legacy.impressions import drop_incomplete, impression_table, pair_table

SOURCE = "an older Keras project's files"  # a bundle made from such files gives it as its source
_MODELS = ["load_attention_captioner", "load_chexnet"]  # imported when they are first used: they load Keras
__all__ = ["drop_incomplete", "impression_table", "pair_table", *_MODELS]


def __getattr__(name: str) -> Any:
    if name not in _MODELS:
        raise AttributeError(f"module 'xray_captioning.legacy' has no attribute {name!r}")
    from xray_captioning.legacy import keras2

    return getattr(keras2, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
