"""The files of the older Keras projects: weights, tokenizers and tables, made usable here.

The names below are imported when they are first used, so that a table can be built without loading Keras.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xray_captioning.legacy.impressions import drop_incomplete as drop_incomplete
    from xray_captioning.legacy.impressions import impression_table as impression_table
    from xray_captioning.legacy.impressions import pair_table as pair_table
    from xray_captioning.legacy.keras2 import load_attention_captioner as load_attention_captioner
    from xray_captioning.legacy.keras2 import load_chexnet as load_chexnet

SOURCE = "an older Keras project's files"  # a bundle made from such files gives it as its source
_HOMES = dict.fromkeys(("drop_incomplete", "impression_table", "pair_table"), "impressions")
_HOMES |= dict.fromkeys(("load_attention_captioner", "load_chexnet"), "keras2")
__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'xray_captioning.legacy' has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
