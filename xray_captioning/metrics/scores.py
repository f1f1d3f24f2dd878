"""The text scores of a system in one call.

METEOR is left out on purpose: pycocoevalcap's needs Java, NLTK's a download of WordNet, and a
METEOR that only matches equal words is another score under the same name.
"""

from collections.abc import Sequence

from xray_captioning.metrics.bleu import bleu, bleu_statistics
from xray_captioning.metrics.chrf import chrf, chrf_available
from xray_captioning.metrics.cider import cider
from xray_captioning.metrics.diversity import caption_entropy, distinct_ngrams
from xray_captioning.metrics.ngrams import References
from xray_captioning.metrics.rouge import rouge_l, rouge_score_rows


def score(
    references: References, hypotheses: Sequence[str], protocol: str = "coco"
) -> dict[str, float]:
    """Score a system's texts against the reports; texts are split at whitespace.

    A fixed normal report scores as well as published systems here, so read these numbers beside
    a baseline's and beside clinical ones.

    Parameters
    ----------
    references : sequence of str or of lists of str
        One or more reference texts a study.
    hypotheses : sequence of str
        The system's texts, in the same order.
    protocol : {'coco', 'nltk', 'legacy'}
        How BLEU is computed, see `xray_captioning.metrics.bleu`. ROUGE-L and CIDEr are
        always pycocoevalcap's.

    Returns
    -------
    dict of str to float
        ``BLEU-1`` to ``BLEU-4`` and ``ROUGE-L`` from 0 to 1, ``CIDEr`` from 0 to 10.

    Raises
    ------
    ConfigError
        When no protocol has that name.
    DataError
        When the columns are empty, differ in length or hold anything but text; the message
        names the row.

    Examples
    --------
    >>> round(score(["no effusion ."], ["no effusion ."])["BLEU-2"], 6)
    1.0
    """
    values = bleu(references, hypotheses, protocol)
    return {
        **{f"BLEU-{order}": float(value) for order, value in enumerate(values, 1)},
        "ROUGE-L": rouge_l(references, hypotheses),
        "CIDEr": cider(references, hypotheses),
    }


def text_scores(
    references: References, hypotheses: Sequence[str], protocol: str = "coco"
) -> dict[str, float]:
    """Score a system's texts in every way that needs only the texts.

    Parameters
    ----------
    references : sequence of str or of lists of str
        One or more reference texts a study.
    hypotheses : sequence of str
        The system's texts, in the same order.
    protocol : {'coco', 'nltk', 'legacy'}
        How BLEU is computed, see `xray_captioning.metrics.bleu`.

    Returns
    -------
    dict of str to float
        What `score` gives; ``ROUGE-1``, ``ROUGE-2`` and ``ROUGE-L-F1`` (rouge-score's, 0 to 1);
        ``chrF`` (0 to 100) where sacrebleu is installed; ``mean_length`` (words);
        ``length_ratio`` (words over those of the closest references; nan where these have
        none); ``distinct`` (different texts), ``distinct-1`` and ``distinct-2`` (different
        n-grams, 0 to 1) and ``entropy`` (of the captions' distribution, in bits).

    Raises
    ------
    ConfigError
        When no protocol has that name.
    DataError
        When the columns are empty, differ in length or hold anything but text; the message
        names the row.
    """
    scores = score(references, hypotheses, protocol)
    rouge = rouge_score_rows(references, hypotheses).mean(axis=0).tolist()
    scores |= dict(zip(("ROUGE-1", "ROUGE-2", "ROUGE-L-F1"), rouge, strict=True))
    if chrf_available():
        scores["chrF"] = chrf(references, hypotheses)
    length, closest = bleu_statistics(references, hypotheses)[:, 8:].sum(axis=0).tolist()
    return scores | {
        "mean_length": length / len(hypotheses),
        "length_ratio": length / closest if closest else float("nan"),
        "distinct": float(len(set(hypotheses))),
        "distinct-1": distinct_ngrams(hypotheses, 1),
        "distinct-2": distinct_ngrams(hypotheses, 2),
        "entropy": caption_entropy(hypotheses),
    }
