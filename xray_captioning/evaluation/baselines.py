"""Systems that look at no image, only at the nearest one, or at the answer: floor and ceiling.

What a model has to beat is in the first functions; :func:`oracle_captions` is what a perfect
classifier with a template would write, and :func:`shuffled_captions` what is left of a model that
is shown other studies' images.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xray_captioning.errors import DataError
from xray_captioning.evaluation.constants import CONSTANT_METRICS, constant_captions
from xray_captioning.findings import FINDINGS
from xray_captioning.metrics.clinical import Labels, label_matrix
from xray_captioning.metrics.labeler import DENIED, PRESENT, UNCERTAIN

Array = NDArray[Any]

OFTEN, SHORT = 3, 12
"""How often a training sentence has to occur before the template uses it, and its most words."""

BASELINES = (
    "constant",
    *(f"constant-{metric}" for metric in CONSTANT_METRICS[1:]),
    "most-frequent",
    "random",
    "retrieval",
    "label-oracle",
)
"""Names that no system may have."""

# What the template says of a finding that no such sentence asserts alone.
PHRASES = {
    "Enlarged Cardiomediastinum": "the mediastinum is widened .",
    "Cardiomegaly": "the heart is enlarged .",
    "Lung Opacity": "there is an opacity in the lung .",
    "Lung Lesion": "there is a pulmonary nodule .",
    "Edema": "there is pulmonary edema .",
    "Consolidation": "there is consolidation .",
    "Pneumonia": "there is pneumonia .",
    "Atelectasis": "there is atelectasis .",
    "Pneumothorax": "there is a pneumothorax .",
    "Pleural Effusion": "there is a pleural effusion .",
    "Pleural Other": "there is pleural thickening .",
    "Fracture": "there is a rib fracture .",
    "Support Devices": "there is a central venous catheter .",
    "Emphysema": "there is emphysema .",
    "Granuloma": "there is a calcified granuloma .",
    "Scoliosis": "there is scoliosis .",
    "Hiatal Hernia": "there is a hiatal hernia .",
}
_SENTENCE = re.compile(r"\S.*?(?:\s\.(?=\s|$)|$)", re.DOTALL)


def constant_caption(texts: Sequence[str]) -> str:
    """Return the training text that scores the highest corpus BLEU-4 when said of every study.

    Parameters
    ----------
    texts : sequence of str
        Cleaned training texts.

    Returns
    -------
    str
        See :func:`xray_captioning.evaluation.constants.constant_captions`.

    Raises
    ------
    DataError
        There is no text.
    """
    return constant_captions(texts, metrics=["BLEU-4"]).get("BLEU-4", min(texts, default=""))


def most_frequent_caption(texts: Sequence[str]) -> str:
    """Return the text that stands most often in training, of equals the first of the alphabet.

    Parameters
    ----------
    texts : sequence of str
        Cleaned training texts.

    Raises
    ------
    DataError
        There is no text.
    """
    if not texts:
        raise DataError("a most frequent caption needs training texts; there are none")
    counts = Counter(texts)
    return min(counts, key=lambda text: (-counts[text], text))


def random_captions(texts: Sequence[str], count: int, seed: int = 0) -> list[str]:
    """Return training texts drawn at random with replacement.

    Parameters
    ----------
    texts : sequence of str
    count, seed : int
    """
    rng = np.random.default_rng(seed)
    return [texts[i] for i in rng.integers(len(texts), size=count)]


def retrieval_captions(features: Array, texts: Sequence[str], queries: Array) -> list[str]:
    """Return the text of each query's nearest training study by cosine of standardised features.

    Parameters
    ----------
    features : array, shape (training studies, channels)
    texts : sequence of str
        Of the training studies.
    queries : array, shape (studies, channels)
    """
    mean, deviation = features.mean(axis=0), features.std(axis=0) + 1e-6
    keys, asked = (_unit((x - mean) / deviation) for x in (features, queries))
    return [texts[i] for i in np.argmax(asked @ keys.T, axis=1)]


def _unit(vectors: Array) -> Array:
    unit: Array = vectors / (np.linalg.norm(vectors, axis=1, keepdims=True) + 1e-9)
    return unit


def shuffled_captions(texts: Sequence[str], seed: int = 0) -> list[str]:
    """Deal a system's captions to other studies: none keeps its own.

    As the caption of another study is what the model says of another study's images, the scores
    of the result are what it says without looking.

    Parameters
    ----------
    texts : sequence of str
        At least two.
    seed : int

    Returns
    -------
    list of str

    Raises
    ------
    DataError
        There are fewer than two texts.
    """
    if len(texts) < 2:
        raise DataError("captions of one study cannot be dealt to others; give at least two")
    order = np.random.default_rng(seed).permutation(len(texts))
    dealt = list(texts)
    for taker, giver in zip(order, np.roll(order, 1)):  # one cycle through all studies
        dealt[taker] = texts[giver]
    return dealt


def oracle_captions(texts: Sequence[str], references: Sequence[str]) -> list[str]:
    """Write what a template makes of the findings that the references really have.

    The template says of each finding the training sentence that most often asserts it and
    nothing else, or one of :data:`PHRASES` where no short sentence does so three times, and then
    of the best constant without a finding (by BLEU-4) the sentences that deny nothing it has
    said. What it cannot know are sides, sizes and places: the scores are the ceiling of a
    template, not of a reader.

    Parameters
    ----------
    texts : sequence of str
        Cleaned training texts.
    references : sequence of str
        Their labels are looked at, nothing else.

    Returns
    -------
    list of str
        One a reference.

    Raises
    ------
    DataError
        There is no training text.
    """
    template = _template(texts)
    asserted = np.isin(label_matrix(references), (PRESENT, UNCERTAIN))
    return [template.write(row) for row in asserted]


class _Template(NamedTuple):
    said: list[str]  # a sentence for each finding, "No Finding" among them
    normal: list[str]  # sentences of a normal text
    labels: Labels  # of those

    def write(self, asserted: Array) -> str:
        found = asserted & (np.array(FINDINGS) != "No Finding")
        sentences = [self.said[i] for i in np.flatnonzero(found)]
        for text, labels in zip(self.normal, self.labels):
            if not (labels[found] == DENIED).any():
                sentences.append(text)
        return " ".join(sentences)


def _template(texts: Sequence[str]) -> _Template:
    found = np.isin(label_matrix(texts)[:, 1:], (PRESENT, UNCERTAIN)).sum(axis=1)
    normal = [text for text, some in zip(texts, found) if not some and text.strip()]
    counts = Counter(sentence for text in texts for sentence in _sentences(text))
    sentences = _sentences(constant_caption(normal)) if normal else []
    return _Template(_favourites(counts), sentences, label_matrix(sentences))


def _favourites(counts: Counter[str]) -> list[str]:
    """Return, for each finding, the most frequent sentence that asserts it alone."""
    common = [text for text in counts if counts[text] >= OFTEN and len(text.split()) <= SHORT]
    ordered = sorted(common, key=lambda text: (-counts[text], len(text), text))
    labels = label_matrix(ordered)
    asserted = labels[:, 1:] == PRESENT
    alone = (asserted.sum(axis=1) == 1) & (labels[:, 1:] != UNCERTAIN).all(axis=1)
    best: dict[str, str] = defaultdict(str, PHRASES)
    for row in np.flatnonzero(alone)[::-1]:  # the most frequent one comes last and stays
        best[FINDINGS[1 + int(np.argmax(asserted[row]))]] = ordered[row]
    return [best[name] for name in FINDINGS]


def _sentences(text: str) -> list[str]:
    return [" ".join(found.split()) for found in _SENTENCE.findall(text)]
