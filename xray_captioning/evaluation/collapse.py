"""Whether a system looks at the images, and whether looking is of any use.

A collapsed model scores well in BLEU, because most reports are alike, and its loss looks healthy;
but its captions go as well with other studies (:mod:`xray_captioning.evaluation.shuffles`). A
system that looks may still name fewer findings than one fixed report does [1]_: that is said apart.

References
----------
.. [1] Babar, van Laarhoven and Marchiori, "Encoder-decoder models for chest X-ray report generation
   perform no better than unconditioned baselines", PLoS ONE 16(11), 2021.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from xray_captioning.evaluation.jackknife import Comparison
from xray_captioning.evaluation.shuffles import WORDS, ShuffleTest
from xray_captioning.metrics.clinical import IS_FINDING, asserted
from xray_captioning.metrics.diversity import caption_entropy

LEVEL = 0.05  # of every test, and of every statement that a table makes
COLLAPSED, NO_BETTER = "collapsed", "no better than a fixed report"
TOO_FEW = "too few studies"  # to tell

_NAMES = {"clinical_f1": "clinical F1", WORDS: "F1 of words"}


class CollapseWarning(UserWarning):
    """A system does not look, or no one can tell; or it is no better than a fixed report."""


class Spread(NamedTuple):
    """How varied a system's captions are; shares are in [0, 1], nan where of nothing."""

    copied: float  # captions that are a training text, word for word
    distinct: float  # different captions
    top_share: float  # of the most frequent caption
    entropy: float  # of the distribution of captions, in bits
    abnormal_recall: float  # abnormal studies whose caption names a finding that they have


class Alarm(NamedTuple):
    """Why a system's scores are not to be believed."""

    system: str  # name of its column in ``captions.csv``
    kind: str  # COLLAPSED, NO_BETTER or TOO_FEW
    message: str  # one sentence
    shuffle_test: ShuffleTest | None  # None where all studies are of one patient
    comparisons: list[Comparison]  # with a fixed report; empty where there is none


def caption_spread(
    references: Sequence[str], texts: Sequence[str], training: Sequence[str]
) -> Spread:
    """Measure how varied a system's captions are, and how many abnormal studies it recognises."""
    true, said = (asserted(column) & IS_FINDING for column in (references, texts))
    abnormal = true.any(axis=1)
    known = frozenset(training)
    return Spread(
        copied=sum(text in known for text in texts) / len(texts),
        distinct=len(set(texts)),
        top_share=max(Counter(texts).values()) / len(texts),
        entropy=caption_entropy(texts),
        abnormal_recall=float((true & said).any(axis=1)[abnormal].mean())
        if abnormal.any()
        else float("nan"),
    )


def collapse_alarm(
    system: str, spread: Spread, test: ShuffleTest | None, constant: Comparison | None
) -> Alarm | None:
    """Say whether a system looks collapsed, or else whether it is no better than a fixed report.
    Collapsed: the permutation test is not significant but would be for the references (else there
    are too few studies). No better: the paired difference is not clearly above 0. They stay two
    verdicts, because a system that reads images but names few findings is not collapsed.
    """
    weak = constant is not None and not constant.clear
    if test is None or min(test.p, test.least_p) > LEVEL:
        kind, message = TOO_FEW, _too_few(system, test)
    elif test.p > LEVEL:
        kind, message = COLLAPSED, _collapsed(system, spread, test, constant if weak else None)
    elif weak and constant is not None:
        name = _NAMES.get(constant.metric, constant.metric)
        kind, message = (
            NO_BETTER,
            (
                f"{system} is not clearly better than a fixed report: its {name} of "
                f"{constant.score:.3f} is not clearly above the {_rival(constant)}"
            ),
        )
    else:
        return None
    return Alarm(system, kind, message, test, [constant] if constant else [])


def _too_few(system: str, test: ShuffleTest | None) -> str:
    return f"cannot tell whether {system} looks at the images: too few studies that differ; " + (
        "all are of one patient, so that captions cannot be given to others"
        if test is None
        else f"p of the references themselves, given to other patients, is {test.least_p:.3f}, and "
        f"of its captions, with a {_NAMES[test.metric]} of {test.score:.3f}, {test.p:.3f}"
    )


def _collapsed(system: str, spread: Spread, test: ShuffleTest, constant: Comparison | None) -> str:
    fixed = f" and the {_rival(constant)}" if constant and constant.metric == test.metric else ""
    return (
        f"{system} looks collapsed: its {_NAMES[test.metric]} of {test.score:.3f} is not clearly "
        f"above the {test.shuffled:.3f} of its own captions given to other studies (mean of "
        f"{test.shuffles:,} shuffles, p {test.p:.3f}){fixed}; distinct captions: "
        f"{spread.distinct:g}, the commonest: {spread.top_share:.0%}, word for word in training: "
        f"{spread.copied:.0%}"
    )


def _rival(constant: Comparison) -> str:
    known = math.isfinite(constant.low)
    interval = f"95 % {constant.low:+.3f} to {constant.high:+.3f}" if known else "no interval"
    return (
        f"{constant.rival_score:.3f} of one fixed report (difference "
        f"{constant.difference:+.3f}, {interval})"
    )
