"""Rows of scores, a study each, as `word_statistics` returns them together."""

from typing import Any

import numpy as np

from xray_captioning.metrics.scores import word_statistics


def bleu_statistics(references: Any, hypotheses: Any) -> Any:
    """Return what BLEU is made of, (studies, 10)."""
    return word_statistics(references, hypotheses)["n-grams"]


def cider_rows(references: Any, hypotheses: Any) -> Any:
    """Return each study's CIDEr, (studies,)."""
    return word_statistics(references, hypotheses)["CIDEr"]


def rouge_score_rows(references: Any, hypotheses: Any) -> Any:
    """Return rouge-score's three, (studies, 3)."""
    found = word_statistics(references, hypotheses, rouge_score=True)
    return np.stack([found[name] for name in ("ROUGE-1", "ROUGE-2", "ROUGE-L-F1")], axis=1)
