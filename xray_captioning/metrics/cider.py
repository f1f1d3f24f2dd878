"""CIDEr-D, pycocoevalcap 1.2's ``Cider``: Vedantam et al. 2015, equations 3 and 4, sigma 6, orders 1 to 4, times 10."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from xray_captioning.metrics import ngrams
from xray_captioning.metrics.ngrams import Codes, Floats, Ints, References, in_order

_SIGMA = 6.0
_CANDIDATES = 256  # compared with all references at a time, to bound memory


class DocumentFrequency(NamedTuple):
    """How common n-grams are in the references of a collection."""

    studies: int
    grams: Codes  # in order: those that references of several studies have, and 0
    having: Ints  # studies of which some reference has it

    def of(self, grams: Codes) -> Ints:
        """Return in how many studies some reference has each n-gram; what no study has counts as if one had."""
        place = np.searchsorted(self.grams, grams, side="right") - 1
        return np.where(self.grams[place] == grams, self.having[place], 1)


Frequency: TypeAlias = DocumentFrequency | None  # None is that of the texts which are compared


def document_frequency(references: References) -> DocumentFrequency:
    """Count in how many studies some reference has each n-gram."""
    texts = in_order("references", references)
    merged, waiting = _merged([]), list[_Counted]()
    for start in range(0, len(texts), ngrams.BLOCK):
        part = enumerate(texts[start : start + ngrams.BLOCK], start)
        block = ngrams.Block([(ngrams.some_texts(f"references[{row}]", text), "") for row, text in part])
        waiting.append(_merged(_having(block)))
        # Merged when they are as many as what there is, so that time is nearly linear.
        if sum(len(grams) for grams, _ in waiting) > len(merged[0]):
            merged, waiting = _merged([merged, *waiting]), []
    grams, having = _merged([merged, *waiting])
    return DocumentFrequency(len(texts), np.append(np.uint64(0), grams[having > 1]), np.append(1, having[having > 1]))


_Counted: TypeAlias = tuple[Codes, Ints]


def _having(block: ngrams.Block) -> Iterator[_Counted]:
    from scipy.sparse import csr_array

    starts, ones = np.append(block.first, len(block.pair)), np.ones(len(block.pair), dtype=np.int64)
    of_study = csr_array((ones, block.reference, starts), (len(block.first), len(block.texts)))
    for grams, counts in block.words.counts:
        yield grams, np.bincount((of_study @ counts).indices, minlength=len(grams))


def _merged(parts: Iterable[_Counted]) -> _Counted:
    """Add up the counts of n-grams, which are put in order."""
    grams, counts = (np.concatenate(column) for column in zip((np.empty(0, np.uint64), np.empty(0, int)), *parts))
    different, place = np.unique(grams, return_inverse=True)
    return different, np.bincount(place, counts, len(different)).astype(np.int64)


def block_scores(block: ngrams.Block, frequency: DocumentFrequency) -> Floats:
    """Compute the CIDEr of a block's pairs, (pairs,), 0 to 10; 0 where the `frequency` is of one study."""
    said, wanted = block.hypothesis[block.pair], block.reference
    similarity = np.zeros(len(wanted))
    for grams, counts in block.words.counts:
        rarity, scale = _weights(grams, counts, frequency)
        # An n-gram of the hypothesis counts at most as often as the reference has it: repeating a
        # rare word does not pay.
        shared = counts[said].minimum(counts[wanted]).multiply(counts[wanted]) @ rarity
        similarity += shared * scale[said] * scale[wanted]
    similarity *= _alike(block.words.lengths[said], block.words.lengths[wanted])
    totals = np.bincount(block.pair, weights=similarity, minlength=len(block.first))
    return 10.0 * totals / np.bincount(block.pair) / ngrams.MAXIMUM_ORDER


def cider_of_constants(references: Sequence[str], candidates: Sequence[str]) -> Floats:
    """Return the mean CIDEr of each fixed text, to rounding: (candidates,)."""
    from scipy.sparse import hstack

    said, wanted = ([text.split() for text in texts] for texts in (candidates, references))
    frequency, words = document_frequency(references), ngrams.Words([*said, *wanted])
    similarity = np.zeros((len(said), len(wanted)))
    for grams, counts in words.counts:
        rarity, scale = _weights(grams, counts, frequency)
        own, others = counts[: len(said)], counts[len(said) :]
        most = max(int(own.max()), 1)
        weighted = hstack([others.multiply(rarity)] * most).multiply(ngrams.levels(others, most)).T
        for start in range(0, len(said), _CANDIDATES):
            part = slice(start, start + _CANDIDATES)
            shared = (ngrams.levels(own[part], most) @ weighted).toarray()
            similarity[part] += shared * scale[: len(said)][part, None] * scale[len(said) :]
    similarity *= _alike(words.lengths[: len(said), None], words.lengths[len(said) :])
    return 10.0 * similarity.mean(axis=1) / ngrams.MAXIMUM_ORDER


def _weights(grams: Codes, counts: Any, frequency: DocumentFrequency) -> tuple[Floats, Floats]:
    """Return the weight of each n-gram, squared, and one over each text's norm."""
    # The logarithm of the quotient: exactly 0 for what every study has.
    rarity = np.log(frequency.studies / (frequency.of(grams).astype(np.float64) if len(grams) else np.ones(1))) ** 2
    norms = np.sqrt(counts.power(2) @ rarity)
    return rarity, np.divide(1, norms, out=np.zeros(len(norms)), where=norms > 0)


def _alike(one: Ints, other: Ints) -> Floats:
    """Return how alike lengths are; pycocoevalcap compares numbers of word pairs."""
    return np.exp(-((np.maximum(one - 1, 0) - np.maximum(other - 1, 0)) ** 2) / (2 * _SIGMA**2))
