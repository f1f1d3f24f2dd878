"""What an encoder makes of studies, as tests look at it."""

from types import SimpleNamespace
from typing import Any

from xray_captioning.encoders.encoding import study_encoder


def encode_files(studies: Any, name: str, weights: Any = None, changes: Any = None, layer: Any = None) -> Any:
    """Encode studies; a classifier's ``outputs`` stand apart from ``regions`` and ``views``."""
    encode, about = study_encoder(max(map(len, studies)), name, weights, changes, layer)
    found = encode(studies)
    regions, views = found.pop("regions"), found.pop("views")
    return SimpleNamespace(regions=regions, views=views, outputs=found, about=about)
