"""The usual text scores of a system in one call. METEOR is a further metric: what needs no Java is another score."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xray_captioning.metrics import bleu, cider, rouge
from xray_captioning.metrics.clinical import clinical_scores
from xray_captioning.metrics.ngrams import Hypotheses, Pairs, References, blocks, checked_pairs, empty_references


def score(
    references: References, hypotheses: Hypotheses, protocol: str = "coco", convention: str | None = None
) -> dict[str, float]:
    """Score a system's texts, split at whitespace, against reports; read that beside a baseline's and clinical scores.

    Parameters
    ----------
    references : sequence of str or of lists of str, or dictionary of id to these
        One or more reference texts a study.
    hypotheses : sequence of str, or dictionary of id to str or to a list of one
        The system's texts: in the same order, or matched by id as pycocoevalcap's and R2Gen's ``gts`` and ``res``.
    protocol : {'coco', 'nltk', 'legacy'}
        How BLEU is computed, see `xray_captioning.metrics.bleu`. ROUGE-L and CIDEr are always pycocoevalcap's.
    convention : {'chexpert', 'mesh'}, optional
        Adds the clinical scores, reports read by this convention; of a study's references the first counts there.

    Returns
    -------
    dict of str to float
        ``BLEU-1`` to ``BLEU-4`` and ``ROUGE-L`` from 0 to 1, ``CIDEr`` from 0 to 10; with a convention also those of
        :func:`~xray_captioning.metrics.clinical.clinical_scores`.

    Raises
    ------
    ConfigError, DataError
        No protocol or convention has that name; columns are empty, differ in length or ids or hold other than text.

    Examples
    --------
    >>> round(score(["no effusion ."], ["no effusion ."])["BLEU-2"], 6)
    1.0
    >>> round(score({7: ["clear"], 8: ["edema"]}, {8: ["edema"], 7: ["clear"]})["BLEU-1"], 6)
    1.0
    """
    pairs = checked_pairs(references, hypotheses)
    names = references if isinstance(references, Mapping) else [f"references[{row}]" for row in range(len(pairs))]
    if said := empty_references(names, [texts for texts, _ in pairs]):
        warnings.warn(said, stacklevel=2)
    return of_pairs(pairs, protocol, convention)


def of_pairs(pairs: Pairs, protocol: str = "coco", convention: str | None = None) -> dict[str, float]:
    """Return the scores of checked pairs, of which nothing is told."""
    references, hypotheses = [texts for texts, _ in pairs], [text for _, text in pairs]
    counted = word_statistics(references, hypotheses)
    values = bleu.of_protocol(protocol, counted["n-grams"], pairs)
    clinical = clinical_scores([texts[0] for texts in references], hypotheses, None, convention) if convention else {}
    return {
        **{f"BLEU-{order}": float(value) for order, value in enumerate(values, 1)},
        **{name: float(counted[name].mean()) for name in ("ROUGE-L", "CIDEr")},
        **clinical,
    }


def word_statistics(
    references: References, hypotheses: Hypotheses, frequency: cider.Frequency = None, rouge_score: bool = False
) -> dict[str, NDArray[Any]]:
    """Return by study what `score` stands on, and rouge-score's F1; CIDEr's `frequency` is that here or another."""
    pairs, parts = checked_pairs(references, hypotheses), []
    frequency = cider.document_frequency([texts for texts, _ in pairs]) if frequency is None else frequency
    for block in blocks(pairs):
        parts.append({"n": np.ones(len(block.first), np.int8), "n-grams": bleu.block_statistics(block)})
        parts[-1] |= {"ROUGE-L": rouge.block_scores(block), "CIDEr": cider.block_scores(block, frequency)}
        if rouge_score:
            parts[-1] |= dict(zip(("ROUGE-1", "ROUGE-2", "ROUGE-L-F1"), rouge.rouge_score_of(block).T, strict=True))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
