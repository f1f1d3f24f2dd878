"""Bring a statement into the form that the data files expect.

Words get their standard spelling, and the answer of a form becomes a sentence: "Effusion: none" is
"effusion is absent".
"""

import re

from xray_captioning.metrics.labels.spelling import Spelling

# What a form answers: "effusion : none". A bracket does the same: "effusion ( none )".
_ANSWERS = (
    r"(?:(?:has |is |was )?(?P<no>none|no|nil|absent|negative|denied|false|n|0"
    r"|(?:not?|none|no longer) (?:present|seen|identified|evident|visible|visualized|noted|detected"
    r"|found))"
    r"|(?P<gone>(?:has |is )?(?:completely )?(?:resolved|cleared|gone|removed))"
    r"|(?P<doubt>possible|questionable|probable|likely|suspected|equivocal|uncertain|indeterminate"
    r"|cannot (?:be )?excluded?|may be present)"
    r"|(?P<yes>yes|present|positive|true|1))"
)
_FORM = re.compile(
    rf" (?:: {_ANSWERS}(?= [,;]|$| (?:\w+ ){{1,3}}:)|\( {_ANSWERS.replace('?P<', '?P<b_')} \))"
)
_ABSENT = re.compile(
    r"(?:^|(?<=[;,] ))(?:not (?:seen|present|identified)|absent|none|no|negative) : "
)
_ANSWERED = {"no": " is absent", "gone": " has resolved", "doubt": " is questioned", "yes": ""}
# "The effusion which was seen previously has resolved": of the effusion nothing new is said there.
_RELATIVE = re.compile(
    r" (?:which|that) (?:was|were|had been) (?:previously |clearly |also )?(?:seen|noted|present"
    r"|described|identified|demonstrated|visible)(?: previously| earlier| before| then"
    r"| on (?:the )?(?:prior|previous|last|earlier|old)(?: study| exam| film)?)?"
)


def normal(raw: str, spelling: Spelling) -> str:
    """Return a statement in standard spelling, an answer of a form as a sentence."""
    words = " ".join(filter(None, map(spelling.__getitem__, raw.split())))
    if ":" in words or "(" in words:
        words = _ABSENT.sub("no ", _FORM.sub(_answer, words))
    if " which " in words or " that " in words:
        words = _RELATIVE.sub("", words)
    return words


def _answer(match: re.Match[str]) -> str:
    kind = next(name for name, text in match.groupdict().items() if text)
    return _ANSWERED[kind.removeprefix("b_")]
