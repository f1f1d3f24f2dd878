"""Clinical agreement of two sets of reports: how far they name the same findings.

A system that copies the most frequent normal report scores well in BLEU and almost 0 here:
``clinical_f1`` averages over seventeen findings and leaves "No Finding" out, of which a constant
normal report alone would get about one half.

References
----------
.. [1] Irvin et al., "CheXpert", AAAI 2019: the fourteen names and the five of its competition.
.. [2] Smit et al., "CheXbert", EMNLP 2020: F1 over labels found in reports.
.. [3] Nicolson et al., "Improving chest X-ray report generation by leveraging warm starting",
   Artificial Intelligence in Medicine 2023: macro, micro and example-based clinical efficacy.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xray_captioning.errors import DataError
from xray_captioning.findings import CHEXPERT, FINDINGS, NO_FINDING
from xray_captioning.metrics.labeler import DENIED, PRESENT, UNCERTAIN, label_report
from xray_captioning.metrics.ngrams import check_columns

NOT_MENTIONED = -2
"""What :func:`label_matrix` writes where :func:`label_report` says None."""

CHEXPERT_5 = ("Cardiomegaly", "Edema", "Consolidation", "Atelectasis", "Pleural Effusion")

Labels = NDArray[np.int8]
Texts = Sequence[str] | Labels

IS_FINDING = np.array([name != NO_FINDING for name in FINDINGS])
"""Which columns of labels are findings: all but "No Finding", shape (18,)."""

_GROUPS = {
    "14": np.array([name in CHEXPERT for name in FINDINGS]),
    "5": np.array([name in CHEXPERT_5 for name in FINDINGS]),
    "all": np.ones(len(FINDINGS), dtype=bool),
}


class FindingScore(NamedTuple):
    """How well a system names one finding; a share of nothing is nan."""

    finding: str
    precision: float
    recall: float
    f1: float
    support: int  # studies whose reference has the finding
    predicted: int  # studies whose hypothesis has it


class Contradiction(NamedTuple):
    """One text asserts what the other denies; `row` counts the pairs from 0."""

    row: int
    finding: str
    reference: int
    hypothesis: int


def label_matrix(texts: Iterable[str]) -> Labels:
    """Label many reports as an array.

    Returns
    -------
    numpy.ndarray of int8, shape (n, 18)
        Columns are :data:`xray_captioning.findings.FINDINGS`: 1 present, 0 denied, -1 uncertain,
        -2 (:data:`NOT_MENTIONED`) not mentioned.
    """
    if isinstance(texts, str):
        raise DataError("expected a list of reports, got one string; put it into a list")
    rows = (
        [NOT_MENTIONED if label is None else label for label in label_report(text).values()]
        for text in texts
    )
    flat = np.fromiter((label for row in rows for label in row), dtype=np.int8)
    return flat.reshape(-1, len(FINDINGS))


def asserted(texts: Texts, uncertain: bool = True) -> NDArray[np.bool_]:
    """Return which findings texts, or their labels, say are there: bool, shape (n, 18).

    An uncertain finding counts as present where `uncertain` is true, otherwise as absent.
    """
    labels = _labels(texts)
    return (labels == PRESENT) | (uncertain & (labels == UNCERTAIN))


def _labels(texts: Texts) -> Labels:
    known = isinstance(texts, np.ndarray) and texts.ndim == 2
    return texts if known else label_matrix(texts)  # type: ignore[return-value]


def confusion(references: Texts, hypotheses: Texts, uncertain: bool = True) -> NDArray[np.int8]:
    """Count the hits and misses of each study and finding.

    An uncertain finding counts as present where `uncertain` is true, otherwise as absent.

    Returns
    -------
    numpy.ndarray of int8, shape (n, 18, 3)
        True positives, false positives and false negatives, each 0 or 1.

    Examples
    --------
    Macro F1 of a thousand resamples at once, without labelling anything again:

    >>> counts = confusion(["small left effusion"] * 20, ["left effusion"] * 20)
    >>> weights = np.random.default_rng(0).multinomial(20, np.full(20, 1 / 20), size=1000)
    >>> f1 = scores_from_counts(np.tensordot(weights, counts, 1))["clinical_f1"]
    >>> f1.shape
    (1000,)
    """
    check_columns(references=references, hypotheses=hypotheses)
    reference, hypothesis = (asserted(texts, uncertain) for texts in (references, hypotheses))
    hits = (reference & hypothesis, ~reference & hypothesis, reference & ~hypothesis)
    return np.stack(hits, axis=-1).astype(np.int8)


def scores_from_counts(counts: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
    """Compute macro and micro F1 from sums of `confusion` over studies, (..., 18, 3): each (...).

    ``clinical_f1`` is macro F1 over the findings other than "No Finding" that some reference has;
    nan where none has any. ``micro_f1`` is micro F1 over the findings other than "No Finding".
    ``macro_f1_14``, ``macro_f1_5``, ``macro_f1_all`` and ``micro_f1_...`` are over CheXpert's
    fourteen names, its five, and all eighteen, with "No Finding" where it is one of them. As in
    the literature, F1 of a finding that nobody has is 0. All are in [0, 1].
    """
    f1 = np.nan_to_num(_f1(counts))
    supported = (counts[..., 0] + counts[..., 2] > 0) & IS_FINDING
    number = supported.sum(-1)
    total = np.where(supported, f1, 0.0).sum(-1)
    scores = {
        "clinical_f1": np.divide(total, number, np.full(total.shape, np.nan), where=number > 0),
        "micro_f1": np.nan_to_num(_f1(counts[..., IS_FINDING, :].sum(-2))),
    }
    for name, group in _GROUPS.items():
        scores[f"macro_f1_{name}"] = f1[..., group].mean(-1)
        scores[f"micro_f1_{name}"] = np.nan_to_num(_f1(counts[..., group, :].sum(-2)))
    return scores


def _f1(counts: NDArray[Any]) -> NDArray[np.float64]:
    """Return F1 along the last axis (true positives, false positives, false negatives)."""
    hits, false, missed = (np.asarray(counts[..., i], dtype=np.float64) for i in range(3))
    return share(2 * hits, 2 * hits + false + missed)


def share(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[np.float64]:
    """Return a quotient; a share of nothing is nan."""
    nothing = np.full(np.shape(whole), np.nan)
    return np.divide(part, whole, out=nothing, where=np.asarray(whole) > 0)


def example_f1(counts: NDArray[Any]) -> NDArray[np.float64]:
    """Return the F1 of each study, (n,), over all eighteen names that its two texts assert.

    It is made of what :func:`confusion` counts, and 1 where neither text asserts anything, "No
    Finding" included.
    """
    return np.nan_to_num(_f1(counts.sum(1, dtype=np.int64)), nan=1.0)


def clinical_scores(references: Texts, hypotheses: Texts) -> dict[str, float]:
    """Compare the findings of hypotheses with those of their references.

    Returns
    -------
    dict of str to float
        The names of :func:`scores_from_counts` and ``example_f1`` (mean of
        :func:`example_f1`), uncertain findings counted as present; and the same names with
        ``_present`` added, uncertain findings counted as absent.

    Examples
    --------
    >>> scores = clinical_scores(["large left effusion"], ["no effusion"])
    >>> scores["clinical_f1"]
    0.0
    """
    check_columns(references=references, hypotheses=hypotheses)
    reference, hypothesis = _labels(references), _labels(hypotheses)
    scores: dict[str, float] = {}
    for suffix, uncertain in (("", True), ("_present", False)):
        counts = confusion(reference, hypothesis, uncertain)
        for name, value in scores_from_counts(counts.sum(0, dtype=np.int64)).items():
            scores[name + suffix] = float(value)
        scores["example_f1" + suffix] = float(example_f1(counts).mean())
    return scores


def clinical_f1_of_constants(references: Texts, candidates: Texts) -> NDArray[np.float64]:
    """Return the ``clinical_f1`` of :func:`clinical_scores` for each fixed text: (candidates,)."""
    said, present = asserted(candidates), asserted(references).sum(axis=0)
    hits, false = said * present, said * (len(references) - present)
    return scores_from_counts(np.stack([hits, false, ~said * present], axis=-1))["clinical_f1"]


def finding_table(references: Texts, hypotheses: Texts) -> list[FindingScore]:
    """Return precision, recall and F1 of every finding, in the order of `FINDINGS`.

    Uncertain findings count as present.
    """
    counts = confusion(references, hypotheses).sum(0, dtype=np.int64)
    hits, false, missed = counts.T
    columns = (
        share(hits, hits + false).tolist(),
        share(hits, hits + missed).tolist(),
        _f1(counts).tolist(),
        (hits + missed).tolist(),
        (hits + false).tolist(),
    )
    return [FindingScore(*row) for row in zip(FINDINGS, *columns, strict=True)]


def contradictions(references: Texts, hypotheses: Texts) -> list[Contradiction]:
    """List the findings that one text asserts and the other denies, by study, then finding.

    Uncertain findings contradict nothing.
    """
    check_columns(references=references, hypotheses=hypotheses)
    reference, hypothesis = _labels(references), _labels(hypotheses)
    opposed = (reference == PRESENT) & (hypothesis == DENIED)
    opposed |= (reference == DENIED) & (hypothesis == PRESENT)
    return [
        Contradiction(int(i), FINDINGS[j], int(reference[i, j]), int(hypothesis[i, j]))
        for i, j in np.argwhere(opposed)
    ]
