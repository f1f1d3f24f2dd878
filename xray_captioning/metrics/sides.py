"""Agreement of two sets of reports on the sides of findings."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xray_captioning.metrics.clinical import share
from xray_captioning.metrics.columns import one_text, paired
from xray_captioning.metrics.labeler import DENIED, find_mentions


class SideScores(NamedTuple):
    """How often both texts name the same side of a finding; a share of nothing is nan."""

    side_agreement: float  # same sides among `shared`
    side_recall: float  # same sides among `lateralised`
    shared: int  # of those, findings that the hypothesis asserts too
    lateralised: int  # findings whose side the reference names


def asserted_sides(text: str) -> dict[str, frozenset[str]]:
    """Return the findings that a report asserts, certain or not, and their sides.

    They are those of all mentions together: none, left, right, or both of them for bilateral.
    """
    sides: dict[str, frozenset[str]] = {}
    for mention in find_mentions(text):
        if mention.label != DENIED:
            sides[mention.finding] = sides.get(mention.finding, frozenset()) | mention.sides
    return sides


def side_counts(references: Sequence[str], hypotheses: Sequence[str]) -> NDArray[np.int64]:
    """Count the findings with a side in each study.

    Returns
    -------
    numpy.ndarray of int64, shape (n, 3)
        Findings whose side the reference names; those of them that the hypothesis asserts; those
        of them with the same side in the hypothesis.
    """
    keys, columns = paired(references=references, hypotheses=hypotheses)
    counts = np.zeros((len(keys), 3), dtype=np.int64)
    for row, key, *texts in zip(counts, keys, *columns, strict=True):
        reference, said = (asserted_sides(one_text(f"texts[{key}]", text)) for text in texts)
        named = {name: sides for name, sides in reference.items() if sides}
        row[:] = (
            len(named),
            sum(name in said for name in named),
            sum(said.get(name) == sides for name, sides in named.items()),
        )
    return counts


def side_agreement(references: Sequence[str], hypotheses: Sequence[str]) -> SideScores:
    """Compare the sides of hypotheses with those of their references.

    Examples
    --------
    >>> side_agreement(["left effusion . right nodule"], ["right effusion"])
    SideScores(side_agreement=0.0, side_recall=0.0, shared=1, lateralised=2)
    """
    lateralised, shared, same = side_counts(references, hypotheses).sum(0)
    agreement, recall = share(np.array([same, same]), np.array([shared, lateralised])).tolist()
    return SideScores(agreement, recall, int(shared), int(lateralised))
