"""Sufficient statistics of every score, study by study, so that any sample's scores are of sums.

The scores of a test set without some patient need no text, only the sums of these statistics.
"""

from collections.abc import Hashable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xray_captioning.errors import DataError
from xray_captioning.files import is_missing
from xray_captioning.metrics import bleu, cider, clinical, mentions, rouge
from xray_captioning.metrics.columns import paired
from xray_captioning.metrics.ngrams import checked_pairs

# Arrays whose first axis is the study, by the name of a score or of a group of scores.
Statistics: TypeAlias = dict[str, NDArray[Any]]
Texts: TypeAlias = Sequence[str]
MEANS = ("ROUGE-L", "CIDEr", "ROUGE-1", "ROUGE-2", "ROUGE-L-F1")  # of words, over studies


def study_statistics(
    references: Texts, hypotheses: Texts, reports: Texts | None = None, frequency: cider.DocumentFrequency | None = None
) -> Statistics:
    """Compute the statistics of one system, whose texts are one a study each: 260 bytes.

    Findings and sides are those of `reports`, by default the references. A study's CIDEr weighs its
    n-grams by `frequency`, by default how many studies of the whole reference set have them, and
    keeps these weights in every sample of its studies, as those of a fixed collection.
    """
    reports = references if reports is None else reports
    columns = {"references": references, "hypotheses": hypotheses, "reports": reports}
    _, (references, hypotheses, reports) = paired(**columns)
    checked_pairs(references, hypotheses)
    reference, hypothesis = map(clinical.label_matrix, (reports, hypotheses))
    statistics = common_statistics(references, hypotheses, frequency)
    statistics |= mentions.mention_statistics(reports, hypotheses, reference, hypothesis)
    rows = rouge.rouge_score_rows(references, hypotheses)
    statistics |= dict(zip(("ROUGE-1", "ROUGE-2", "ROUGE-L-F1"), rows.T, strict=True))
    return statistics | clinical.finding_statistics(reference, hypothesis)


def common_statistics(
    references: Texts, hypotheses: Texts, frequency: cider.DocumentFrequency | None = None
) -> Statistics:
    """Compute those of `study_statistics` that `score` stands on: n, bleu, ROUGE-L and CIDEr."""
    return {
        "n": np.ones(len(references), dtype=np.int8),
        "bleu": bleu.bleu_statistics(references, hypotheses),
        "ROUGE-L": rouge.rouge_l_rows(references, hypotheses),
        "CIDEr": cider.cider_rows(references, hypotheses, frequency),
    }


def patient_numbers(patients: Sequence[Hashable] | None, studies: int) -> NDArray[np.int64]:
    """Return the number of the patient of each study, from 0, by first appearance: (studies,). A
    study whose patient is not known is of a patient of its own.
    """
    if patients is None:
        return np.arange(studies)
    if len(patients) != studies:
        raise DataError(f"{len(patients)} patients but {studies} studies: give each study its own")
    number: dict[Hashable, int] = {}
    known = (object() if is_missing(patient) else patient for patient in patients)
    return np.array([number.setdefault(patient, len(number)) for patient in known], np.int64)


def patient_sums(statistics: Statistics, patients: NDArray[np.integer]) -> Statistics:
    """Add up the statistics of each patient's studies, by `patient_numbers`: (patients, ...)."""
    order = np.argsort(patients, kind="stable")
    starts = np.flatnonzero(np.diff(patients[order], prepend=-1))
    return {
        name: np.add.reduceat(values[order], starts, axis=0, dtype=np.float64) for name, values in statistics.items()
    }


def scores_from_sums(sums: Statistics, findings: clinical.Findings = None) -> dict[str, NDArray[Any]]:
    """Compute all scores of samples, each (samples,), from sums of `study_statistics` over studies.

    They have the names that `score`, `clinical_scores` and `mention_scores` use, and those of
    `MEANS`, ``mean_length`` (words) and ``length_ratio`` (to the closest references); nan is a
    share of nothing.
    """
    return text_scores(sums) | clinical.finding_scores(sums, findings) | mentions.mention_scores(sums)


def support(sums: Statistics, findings: clinical.Findings = None) -> dict[str, int]:
    """Count the patients, (patients, ...) of `sums`, that a score stands on, if not on all.

    For micro F1 those with a finding of the group in some reference; for macro F1 those with the
    rarest finding, which counts as 0 where it is absent; for ``clinical_f1`` those with the median
    of the `findings` that any text asserts, because the others are left out.
    """
    counted = mentions.mention_support(sums)
    for suffix in ("", "_present"):
        supported = _finding_support(sums["findings" + suffix], clinical.finding_columns(findings))
        counted |= {name + suffix: number for name, number in supported.items()}
    return counted


def _finding_support(counts: NDArray[Any], columns: NDArray[np.bool_]) -> dict[str, int]:
    positive = counts[..., [0, 2]].sum(-1) > 0
    patients = positive.sum(0)
    averaged = patients[columns & counts.any((0, 2))]
    counted = {
        "clinical_f1": int(np.median(averaged)) if averaged.size else 0,
        "micro_f1": int(positive[:, clinical.IS_FINDING].any(1).sum()),
    }
    for name, group in clinical.GROUPS.items():
        counted[f"macro_f1_{name}"] = int(patients[group].min())
        counted[f"micro_f1_{name}"] = int(positive[:, group].any(1).sum())
    return counted


def text_scores(sums: Statistics) -> dict[str, NDArray[Any]]:
    """Compute those of `scores_from_sums` that compare words, as far as there are statistics."""
    columns = bleu.bleu_from_statistics(sums["bleu"])
    length, closest = sums["bleu"][:, 8], sums["bleu"][:, 9]
    scores = {f"BLEU-{order}": columns[:, order - 1] for order in (1, 2, 3, 4)}
    scores |= {name: sums[name] / sums["n"] for name in MEANS if name in sums}
    ratio = clinical.share(length, closest)
    return scores | {"mean_length": length / sums["n"], "length_ratio": ratio}
