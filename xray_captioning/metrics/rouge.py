"""ROUGE twice. The COCO caption evaluation's ROUGE-L (pycocoevalcap 1.2: beta 1.2, best precision and best recall over
the references) takes words as they stand between spaces. rouge-score 0.1.2's three, which is slow, take the plain F1,
the best over the references, of the runs of a-z and 0-9 of the lower-cased text, without stemming.
"""

import re
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from xray_captioning.metrics.ngrams import Block, Floats, Hypotheses, Ints, References, Words, blocks, checked_pairs

_BETA_SQUARED = 1.2**2
_ALPHANUMERIC = re.compile("[a-z0-9]+")


def rouge_l_rows(references: References, hypotheses: Hypotheses) -> Floats:
    """Compute every study's COCO ROUGE-L, (studies,), from 0 to 1; an empty text is one empty word, as there."""
    return np.concatenate([block_scores(block) for block in blocks(checked_pairs(references, hypotheses))])


def block_scores(block: Block) -> Floats:
    """Return the `rouge_l_rows` of a block's pairs."""
    said, wanted = block.hypothesis[block.pair], block.reference
    own, others = block.words.lengths[said], block.words.lengths[wanted]
    longest = np.where(own + others == 0, 1, _common(block.words, said, wanted))
    shares = (longest / np.maximum(lengths, 1) for lengths in (own, others))
    return _f_measure(*(np.maximum.reduceat(share, block.first) for share in shares))


def rouge_l_of_constants(references: Sequence[str], candidates: Sequence[str]) -> Floats:
    """Return the mean of what `rouge_l_rows` gives each fixed text, to rounding: (candidates,)."""
    texts, said = ([text.split() or [""] for text in column] for column in (references, candidates))
    table = _WordOrder([len(text) for text in texts])
    places: dict[str, int] = {}
    for start, text in zip(table.starts.tolist(), texts, strict=True):
        for place, word in enumerate(text, start):
            places[word] = places.get(word, 0) | 1 << place
    longest = (table.common(places.get(word, 0) for word in words) for words in said)
    scores = (_f_measure(common / len(words), common / table.lengths) for common, words in zip(longest, said))
    return np.array([of_texts.mean() for of_texts in scores])


class _WordOrder:
    """Finds the longest subsequence that each of some texts shares with another (Hyyrö 2004): they lie in an integer, a
    bit a word and a free bit after each, in which carries end. A row of the usual table is such an integer, too (a zero
    where the length grows by one): an addition and two bit operations.
    """

    def __init__(self, lengths: Sequence[int] | Ints) -> None:
        self.lengths = np.asarray(lengths)
        self.ends = np.cumsum(self.lengths + 1)
        self.starts = self.ends - self.lengths - 1

    def common(self, matches: Iterable[int]) -> Ints:
        """Return the longest common subsequence's length with each text; `matches` are each compared word's places."""
        real = np.ones(self.ends[-1], dtype=bool)
        real[self.ends - 1] = False
        row = everywhere = _as_integer(real)
        for places in matches:
            matched = row & places
            row = (row + matched | row - matched) & everywhere
        data = np.frombuffer(row.to_bytes(len(real) // 8 + 1, "little"), np.uint8)
        return self.lengths - np.add.reduceat(np.unpackbits(data, bitorder="little"), self.starts, dtype=np.int64)


def _as_integer(bits: NDArray[np.bool_]) -> int:
    return int.from_bytes(np.packbits(bits, bitorder="little").tobytes(), "little")


def _common(words: Words, said: Ints, wanted: Ints) -> Ints:
    """Return the length of the longest common subsequence of pairs of texts, by number: (pairs,)."""
    order = np.argsort(-words.lengths[said], kind="stable")  # the rows of short texts are done early
    table = _WordOrder(words.lengths[wanted[order]])
    codes, places = np.append(words.codes, np.uint64(0)), np.arange(table.ends[-1])
    there = codes[places + np.repeat((words.ends - words.lengths)[wanted[order]] - table.starts, table.lengths + 1)]
    own, first = words.lengths[said[order]], (words.ends - words.lengths)[said[order]]

    def matches() -> Iterator[int]:
        for place in range(own[0]):
            number = np.searchsorted(-own, -place)  # of texts that have a word there
            asked = np.repeat(codes[first[:number] + place], table.lengths[:number] + 1)
            yield _as_integer(asked == there[: len(asked)])

    found = np.empty(len(order), dtype=np.int64)
    found[order] = table.common(matches())
    return found


def _f_measure(precision: Floats, recall: Floats) -> Floats:
    scale = recall + _BETA_SQUARED * precision
    return np.divide((1 + _BETA_SQUARED) * precision * recall, scale, out=np.zeros(len(scale)), where=scale > 0)


def rouge_score_of(block: Block) -> Floats:
    """Compute the F1 of ROUGE-1, ROUGE-2 and ROUGE-L of a block's pairs, (pairs, 3), as rouge-score does."""
    words = Words([_ALPHANUMERIC.findall(text.lower()) for text in block.texts])
    said, wanted = block.hypothesis[block.pair], block.reference
    common = [counts[said].minimum(counts[wanted]).sum(axis=1) for _, counts in words.counts[:2]]
    common.append(_common(words, said, wanted))
    both = words.lengths[said] + words.lengths[wanted]
    # F1 of what is common from the sizes of both sides together.
    columns = (2 * same / np.maximum(sizes, 1) for same, sizes in zip(common, (both, both - 2, both)))
    return np.maximum.reduceat(np.column_stack(list(columns)), block.first)
