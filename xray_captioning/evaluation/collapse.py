"""Whether a system reads images at all, or says what is usually said.

A collapsed model scores well in BLEU, because most reports are alike, and its loss looks healthy.
What it says of *other* studies shows it: if a fixed report, or its own captions given to other
studies, find as many findings as it does, it does not look.

References
----------
.. [1] Babar, van Laarhoven and Marchiori, "Encoder-decoder models for chest X-ray report generation
   perform no better than unconditioned baselines", PLoS ONE 16(11), 2021.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from xray_captioning.evaluation.bootstrap import Bootstrap, Comparison
from xray_captioning.metrics.clinical import IS_FINDING, asserted
from xray_captioning.metrics.diversity import caption_entropy

ALARM_METRICS = ("clinical_f1", "BLEU-4")
"""The metric that decides, and the one that decides where no reference has a finding."""


class CollapseWarning(UserWarning):
    """A system is not clearly better than a fixed report, or than its own captions shuffled."""


class Spread(NamedTuple):
    """How varied a system's captions are; shares are in [0, 1], nan where of nothing."""

    copied: float  # captions that are a training text, word for word
    distinct: int  # different captions
    top_share: float  # of the most frequent caption
    entropy: float  # of the distribution of captions, in bits
    abnormal_recall: float  # abnormal studies whose caption names a finding that they have


class Alarm(NamedTuple):
    """Why a system is suspected of writing the same whatever it is shown."""

    system: str  # name of its column in ``captions.csv``
    message: str  # one sentence
    comparisons: list[Comparison]  # those that failed first


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
    system: str, spread: Spread, found: Bootstrap, constants: Sequence[str], shuffled: str | None
) -> Alarm | None:
    """Say whether a system is clearly better than a fixed report and than itself shuffled.

    Two differences of clinical F1 decide: to the fixed report that scores highest in it, and to
    the system's own captions given to other studies. The 95 % interval of each has to lie above
    0. Where no reference has a finding, BLEU-4 decides in the same way. BLEU-4 raises no alarm
    where there are findings: a system that reads images, but words its reports unlike the
    references, may score less than a fixed report.

    `system`, `constants` and `shuffled` are names in `found`, the last None for a single study.
    """
    metric = next((m for m in ALARM_METRICS if np.isfinite(found.scores[system][m])), "BLEU-4")
    rivals = [max(constants, key=lambda name: found.scores[name][metric])] if constants else []
    rivals += [shuffled] if shuffled else []
    compared = [found.compare(system, rival, metric) for rival in rivals]
    failed = [comparison for comparison in compared if not comparison.clear]
    if not failed:
        return None
    others = [found.compare(system, constants[0], "BLEU-4")] if constants else []
    passed = [comparison for comparison in compared if comparison.clear]
    return Alarm(system, _sentence(system, spread, failed, shuffled), failed + passed + others)


def _sentence(
    system: str, spread: Spread, failed: Sequence[Comparison], shuffled: str | None
) -> str:
    name = {"clinical_f1": "clinical F1"}.get(failed[0].metric, failed[0].metric)
    rivals = [
        f"{c.rival_score:.3f} of "
        + ("its own captions given to other studies" if c.rival == shuffled else "one fixed report")
        + f" (difference {c.difference:+.3f}, 95 % {c.low:+.3f} to {c.high:+.3f})"
        for c in failed
    ]
    return (
        f"{system} looks collapsed: its {name} of {failed[0].score:.3f} is not clearly "
        f"above the {' and the '.join(rivals)}; distinct captions: {spread.distinct}, the "
        f"commonest: {spread.top_share:.0%}, word for word in training: {spread.copied:.0%}"
    )
