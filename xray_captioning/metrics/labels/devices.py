"""What a device is, and whether a report calls its place right; ``devices.toml`` has the words."""

import re
from functools import cache
from pathlib import Path
from typing import Any

SATISFACTORY, MALPOSITIONED = "satisfactory", "malpositioned"
_ABOVE_CARINA = re.compile(
    r"(\d+(?:\.\d+)?) ?(cm|mm|centimeters?) (?:\w+ ){0,2}?above (?:the )?carina"
)


def device_of(words: str, start: int, end: int, part: tuple[int, int]) -> str | None:
    """Return the kind of a device that is named at a place in a sentence, None where none fits.

    Its own words are looked at first, then those before it in its part of the sentence, then all.
    """
    for text in (words[start:end], words[part[0] : end], words[slice(*part)]):
        for kind in _kinds():
            if kind != "any" and _found(kind, "named", text):
                return kind
    return None


def placement_of(device: str | None, clause: str) -> str | None:
    """Return "satisfactory" or "malpositioned" as a clause calls a device's place, else None.

    Examples
    --------
    >>> placement_of("endotracheal tube", "tip 4 cm above the carina")
    'satisfactory'
    >>> placement_of("enteric tube", "coiled in the esophagus")
    'malpositioned'
    """
    clause = _pattern(_kinds()["any"]["denied"]).sub(" ", clause)
    called = [  # by where they end, then by length: "not in good position" is longer
        (match.end(), len(match[0]), verdict)
        for kind in ("any", device or "any")
        for verdict in (SATISFACTORY, MALPOSITIONED)
        for match in _found(kind, verdict, clause)
    ]
    limits = _kinds()[device or "any"].get("cm_above_carina", [])
    for match in _ABOVE_CARINA.finditer(clause) if limits else ():
        height = float(match[1]) / (10 if match[2] == "mm" else 1)
        verdict = SATISFACTORY if limits[0] <= height <= limits[1] else MALPOSITIONED
        called.append((match.end(), len(match[0]), verdict))
    return max(called)[2] if called else None


def _found(kind: str, about: str, text: str) -> list[re.Match[str]]:
    """Return the words that say something of a kind of device."""
    words = _kinds()[kind].get(about)
    return list(_pattern(words).finditer(text)) if words else []


@cache
def _pattern(words: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{words})\b")


@cache
def _kinds() -> dict[str, dict[str, Any]]:
    import tomllib  # few reports name a device whose place is asked for

    found = tomllib.loads(Path(__file__).with_name("devices.toml").read_text("utf-8"))
    return {"any": found["any"], **found["kinds"]}
