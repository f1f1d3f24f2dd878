"""Sufficient statistics of every score, study by study, so that any sample's scores are sums.

A resample of studies is a row of weights: how often each study was drawn. Its scores need no text,
only the weighted sums of these statistics.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xray_captioning.metrics.bleu import bleu_from_statistics, bleu_statistics
from xray_captioning.metrics.chrf import chrf_available, chrf_from_statistics, chrf_statistics
from xray_captioning.metrics.cider import cider_rows
from xray_captioning.metrics.clinical import (
    confusion,
    example_f1,
    label_matrix,
    scores_from_counts,
    share,
)
from xray_captioning.metrics.ngrams import checked_pairs
from xray_captioning.metrics.rouge import rouge_l_rows, rouge_score_rows
from xray_captioning.metrics.sides import side_counts

Statistics: TypeAlias = dict[str, NDArray[Any]]
"""Arrays whose first axis is the study, by the name of a score or of a group of scores."""

MEANS = (
    "ROUGE-L",
    "CIDEr",
    "ROUGE-1",
    "ROUGE-2",
    "ROUGE-L-F1",
    "example_f1",
    "example_f1_present",
)
"""Scores that are means over studies."""

_ROWS = 1 << 16  # studies whose integers are converted to floats at a time


def study_statistics(
    references: Sequence[str],
    hypotheses: Sequence[str],
    reports: Sequence[str] | None = None,
) -> Statistics:
    """Compute the statistics of one system.

    Parameters
    ----------
    references, hypotheses : sequence of str
        One text of each a study.
    reports : sequence of str, optional
        Texts whose findings and sides count, where they are not the references.

    Returns
    -------
    dict of str to ndarray
        ``n`` (ones), ``bleu`` (studies, 10), the means of `MEANS`, ``sides`` (studies, 3),
        ``findings`` and ``findings_present`` (studies, 18, 3) and, where sacrebleu is installed,
        ``chrf`` (studies, 6, 3); 270 to 420 bytes a study.

    Notes
    -----
    A study's CIDEr weighs its n-grams by how many studies of the whole reference set have them,
    and keeps these weights in every resample, as the inverse document frequencies of a fixed
    collection.
    """
    checked_pairs(references, hypotheses)
    reports = references if reports is None else reports
    reference, hypothesis = label_matrix(reports), label_matrix(hypotheses)
    statistics: Statistics = {
        "n": np.ones(len(reference), dtype=np.int8),
        "bleu": bleu_statistics(references, hypotheses),
        "ROUGE-L": rouge_l_rows(references, hypotheses),
        "CIDEr": cider_rows(references, hypotheses),
        "sides": side_counts(reports, hypotheses),
    }
    rouge = rouge_score_rows(references, hypotheses)
    statistics |= dict(zip(("ROUGE-1", "ROUGE-2", "ROUGE-L-F1"), rouge.T, strict=True))
    for suffix, uncertain in (("", True), ("_present", False)):
        counts = confusion(reference, hypothesis, uncertain)
        statistics["findings" + suffix] = counts
        statistics["example_f1" + suffix] = example_f1(counts)
    if chrf_available():
        statistics["chrf"] = chrf_statistics(references, hypotheses)
    return statistics


def weighted_scores(statistics: Statistics, weights: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Compute all scores of resamples.

    Parameters
    ----------
    statistics : dict of str to ndarray
        Of `study_statistics`.
    weights : ndarray, shape (resamples, studies)
        How often each resample has each study; a row of ones is the sample itself.

    Returns
    -------
    dict of str to ndarray of float64, shape (resamples,)
        By the names that `score`, `clinical_scores` and `side_agreement` use, and ``ROUGE-1``,
        ``ROUGE-2`` and ``ROUGE-L-F1`` (rouge-score's, 0 to 1), ``chrF`` (0 to 100),
        ``mean_length`` (words) and ``length_ratio`` (words over those of the closest references);
        nan where a score is a share of nothing.
    """
    sums = {name: _weighted_sum(weights, values) for name, values in statistics.items()}
    scores = _text_scores(sums)
    for suffix in ("", "_present"):
        clinical = scores_from_counts(sums["findings" + suffix])
        scores |= {name + suffix: values for name, values in clinical.items()}
        scores["example_f1" + suffix] = sums["example_f1" + suffix] / sums["n"]
    lateralised, shared, same = sums["sides"].T
    return scores | {"side_agreement": share(same, shared), "side_recall": share(same, lateralised)}


def _weighted_sum(weights: NDArray[Any], values: NDArray[Any]) -> NDArray[np.float64]:
    flat = values.reshape(len(values), -1)
    total = np.zeros((len(weights), flat.shape[1]))
    for start in range(0, len(values), _ROWS):
        part = slice(start, start + _ROWS)
        total += weights[:, part].astype(np.float64, copy=False) @ flat[part].astype(np.float64)
    return total.reshape(len(weights), *values.shape[1:])


def _text_scores(sums: Statistics) -> dict[str, NDArray[Any]]:
    bleu = bleu_from_statistics(sums["bleu"])
    length, closest = sums["bleu"][:, 8], sums["bleu"][:, 9]
    scores = {f"BLEU-{order}": bleu[:, order - 1] for order in (1, 2, 3, 4)}
    scores |= {name: sums[name] / sums["n"] for name in MEANS[:5]}
    if "chrf" in sums:
        scores["chrF"] = chrf_from_statistics(sums["chrf"])
    return scores | {"mean_length": length / sums["n"], "length_ratio": share(length, closest)}
