"""The view of a radiograph, from what a source or a DICOM file calls it."""

import re

from xray_captioning.data.studies import FRONTAL, LATERAL, UNKNOWN

_FRONTAL = frozenset(("AP", "PA", "FRONTAL"))
_LATERAL = frozenset(("LL", "RL", "LAT", "LATERAL", "LLAT", "RLAT"))
_NEITHER = re.compile(r"DECUB|OBL")  # a lateral decubitus is no lateral view


def named_view(name: str) -> str:
    """Return the view, 'frontal', 'lateral' or 'unknown', that words such as 'AP SUPINE' name.

    Oblique and decubitus views are unknown, and so are those where neither or both are named.
    """
    words = set(re.findall("[A-Z]+", name.upper()))
    frontal, lateral = bool(words & _FRONTAL), bool(words & _LATERAL)
    if frontal == lateral or _NEITHER.search(name.upper()):
        return UNKNOWN
    return FRONTAL if frontal else LATERAL
