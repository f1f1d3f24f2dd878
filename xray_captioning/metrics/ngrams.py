"""What metrics share: columns of texts, checked and paired by study; n-grams, counted; how varied texts are."""

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set, ValuesView
from functools import cached_property
from hashlib import blake2b
from itertools import chain, combinations
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xray_captioning.errors import DataError
from xray_captioning.metrics.labels.spelling import Kept

MAXIMUM_ORDER = 4  # BLEU and CIDEr count runs of one to four words
LARGE = 50_000  # studies, above which less is kept of each (docs/scale.md)
BLOCK = 5_000  # pairs counted at a time, so that memory does not grow with their number

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Codes: TypeAlias = NDArray[np.uint64]
Hypotheses: TypeAlias = Sequence[str] | Mapping[Any, str] | Mapping[Any, Sequence[str]]
"""A text of each study: in the order of the references, or by id where those are by id."""
References: TypeAlias = Hypotheses | Sequence[Sequence[str]]
"""One reference text of each study, or a list of them."""
Pairs: TypeAlias = list[tuple[list[str], str]]  # the references and the hypothesis of each study


def paired(**columns: Any) -> tuple[Sequence[Any], list[Sequence[Any]]]:
    """Put columns, named as messages call them, side by side: keys, and columns of one length."""
    # Dictionaries are matched by id, in the order of the first one; an id that JSON made a text is the number it was.
    # All else is matched by position, its keys are numbers from 0. An array of labels, (n, 18), stays one.
    if any(isinstance(column, Mapping) for column in columns.values()):
        keys, found = _by_id(columns)
    else:
        _check_indexes(columns)
        found = {name: in_order(name, column) for name, column in columns.items()}
        keys = range(len(next(iter(found.values()))))
    sizes = {name: len(column) for name, column in found.items()}
    if len(set(sizes.values())) > 1:
        counted = " and ".join(f"{size} {name}" for name, size in sizes.items())
        raise DataError(f"{counted}: give one of each a study, in the same order")
    if not all(sizes.values()):
        raise DataError(f"no texts to score: the lists of {' and '.join(columns)} are empty")
    return keys, list(found.values())


class PackedTexts(Sequence[str]):
    """Very many texts as bytes one behind the other: without an object for each, and never changed."""

    def __init__(self, texts: Iterable[str]) -> None:
        ends, self._bytes = array("q", [0]), bytearray()
        for text in texts:
            self._bytes += text.encode("utf-8", "surrogatepass")
            ends.append(len(self._bytes))
        self._ends = np.frombuffer(ends, np.int64)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        i = range(len(self))[place]
        return self._bytes[self._ends[i] : self._ends[i + 1]].decode("utf-8", "surrogatepass")


def kept_texts(texts: Iterable[Any], number: int) -> Sequence[Any]:
    """Return so many texts as a list, very many as `PackedTexts`."""
    return PackedTexts(texts) if number > LARGE else list(texts)


def in_order(name: str, column: Any) -> Sequence[Any]:
    """Return a column as a list, an array of labels as it is; a dictionary is its values."""
    if isinstance(column, str | bytes):
        raise DataError(f"{name} is one text; give a list with one text per study")
    if isinstance(column, Mapping):
        return list(column.values())
    if isinstance(column, Set | ValuesView) or not isinstance(column, Iterable):
        what = f"is a {type(column).__name__}, which does not say which text is of which study"
        raise DataError(f"{name} {what}; give a list, or a dictionary of id to text")
    dimensions = getattr(column, "ndim", 1)
    if isinstance(column, np.ndarray) and dimensions == 2 and column.dtype.kind == "i":
        return column  # type: ignore[return-value]
    if dimensions != 1:
        raise DataError(f"{name} is a table of {dimensions} dimensions; give one column of it")
    return column if isinstance(column, list | tuple | PackedTexts) else list(column)


def some_texts(where: str, value: Any) -> list[str]:
    """Return one text or several as a list, and name the place where that fails."""
    texts: list[str] = list(value) if isinstance(value, list | tuple) else [value]
    if not texts:
        raise DataError(f"{where} is an empty list; give at least one text, '' where none is known")
    for text in texts:
        if not isinstance(text, str):
            raise DataError(f"{where} is not text but {type(text).__name__}; write '' for no text")
    return texts


def one_text(where: str, value: Any) -> str:
    """Return a text, or the only text of a list: COCO's results hold such lists."""
    texts = some_texts(where, value)
    if len(texts) > 1:
        raise DataError(f"{where} is {len(texts)} texts; give one")
    return texts[0]


def checked_texts(name: str, texts: Any) -> Sequence[str]:
    """Return one column of texts; a DataError calls it `name`."""
    column = in_order(name, texts)
    if not len(column):
        raise DataError(f"{name} has no text; give at least one")
    for row, text in enumerate(column if not isinstance(column, PackedTexts) else ()):
        if not isinstance(text, str):
            some_texts(f"{name}[{row}]", [text])  # which says what it is
    return column


def _by_id(columns: Mapping[str, Any]) -> tuple[Sequence[Any], dict[str, Sequence[Any]]]:
    texts: dict[str, dict[str, Any]] = {}
    for name, column in columns.items():
        if not isinstance(column, Mapping):
            advice = "give dictionaries of id to text, which are matched by id, or lists in the same order"
            raise DataError(f"{name} is no dictionary, but the other column is; {advice}")
        texts[name] = {str(key): value for key, value in column.items()}
        if len(texts[name]) < len(column):
            raise DataError(f"{name} has an id as a number and as text; keep one of them")
    for (name, first), (other, second) in combinations(texts.items(), 2):
        alone = {name: first.keys() - second.keys(), other: second.keys() - first.keys()}
        if any(alone.values()):
            counted = [f"{len(ids)} only in {n}{f', such as {min(ids)}' if ids else ''}" for n, ids in alone.items()]
            raise DataError(f"{name} and {other} are of different studies: {' and '.join(counted)}; give the same")
    keys = list(next(iter(texts.values())))
    return keys, {name: [known[key] for key in keys] for name, known in texts.items()}


def _check_indexes(columns: Mapping[str, Any]) -> None:
    """Refuse two pandas columns whose rows are not the same ones in the same order."""
    indexed = {n: c for n, c in columns.items() if hasattr(c, "index") and hasattr(c, "to_numpy")}
    for (name, first), (other, second) in combinations(indexed.items(), 2):
        if not first.index.equals(second.index):
            advice = "give both as .to_dict() where the index is the study's id, or else .tolist() in the same order"
            raise DataError(f"{name} and {other} are columns of tables with different indexes; {advice}")


def checked_pairs(references: References, hypotheses: Hypotheses) -> Pairs:
    """Check references and hypotheses as the room's docstring says, and put them side by side."""
    keys, (wanted, said) = paired(references=references, hypotheses=hypotheses)
    several = ([t] if isinstance(t, str) else some_texts(f"references[{k}]", t) for k, t in zip(keys, wanted))
    single = (t if isinstance(t, str) else one_text(f"hypotheses[{k}]", t) for k, t in zip(keys, said))
    return list(zip(several, single, strict=True))


def empty_references(studies: Iterable[Any], references: Sequence[Sequence[str]]) -> str:
    """Say how many studies have a reference without a word, and which is the first; nothing of none."""
    empty = [study for study, texts in zip(studies, references) if not all(map(str.strip, texts))]
    such = f"{len(empty)} of {len(references)} studies have an empty reference, the first {empty[0]}" if empty else ""
    return such and f"{such}; nothing can agree with it: leave the study out, or write its report"


def _code(word: str) -> int:
    return int.from_bytes(blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest())


# Words and n-grams are compared as numbers of 64 bits. In a collection of twenty million different ones
# the chance that any two have the same number is one in a hundred thousand.
_CODES = Kept(_code, most=1 << 18)
_FACTOR = np.array([0x9E3779B97F4A7C15], np.uint64)  # odd, so that no word before another is lost


def numbered(codes: Codes) -> tuple[Ints, Codes]:
    """Return the number of each by first appearance, and the different ones: a hash table of NumPy's."""
    bits, factor = np.uint64(62 - len(codes).bit_length()), _FACTOR
    first, left = np.empty(len(codes), np.int64), np.arange(len(codes))
    while len(left):
        slot, table = codes[left] * factor >> bits, np.empty(1 << (64 - int(bits)), np.int64)
        table[slot[::-1]] = left[::-1]  # the first one stays
        found = table[slot]
        same = codes[found] == codes[left]
        first[left[same]] = found[same]
        left, factor = left[~same], factor * _FACTOR
    different = first == np.arange(len(codes))
    return (np.cumsum(different) - 1)[first], codes[different]


class Words:
    """Texts, lists of words, as the numbers of their words, one behind the other."""

    def __init__(self, texts: Sequence[Sequence[str]]) -> None:
        self.lengths = np.array([len(words) for words in texts], dtype=np.int64)
        self.ends = np.cumsum(self.lengths)
        words = chain.from_iterable(texts)
        self.codes: Codes = np.fromiter(map(_CODES.__getitem__, words), np.uint64, int(self.lengths.sum()))

    @cached_property
    def counts(self) -> list[tuple[Codes, Any]]:
        """By order the n-grams, by first appearance, and how often a text has each: csr_array, (texts, n-grams)."""
        from scipy.sparse import csr_array

        found, left = [], np.repeat(self.ends, self.lengths) - np.arange(len(self.codes))
        grams = self.codes
        for order in range(1, MAXIMUM_ORDER + 1):
            if order > 1:
                grams = grams[:-1] * _FACTOR + self.codes[order - 1 :]
            columns, different = numbered(grams[left[: len(grams)] >= order])
            starts = np.append(0, np.cumsum(np.maximum(self.lengths - order + 1, 0)))
            ones = np.ones(len(columns), dtype=np.int64)
            counts = csr_array((ones, columns, starts), (len(self.lengths), max(len(different), 1)))
            counts.sum_duplicates()
            found.append((different, counts))
        return found


class Block:
    """Some pairs, and their different texts, each once, so that what a text has is counted once."""

    def __init__(self, pairs: Pairs) -> None:
        number: dict[str, int] = {}
        said = [number.setdefault(hypothesis, len(number)) for _, hypothesis in pairs]
        wanted = [number.setdefault(text, len(number)) for texts, _ in pairs for text in texts]
        several = np.array([len(texts) for texts, _ in pairs])
        self.texts = list(number)
        self.hypothesis = np.array(said)  # number of the text, (pairs,)
        self.reference = np.array(wanted)  # of all pairs, one behind the other, (references,)
        self.pair = np.repeat(np.arange(len(pairs)), several)  # that a reference is of, (references,)
        self.first = np.cumsum(several) - several  # where the references of a pair begin, (pairs,)

    @cached_property
    def words(self) -> Words:
        """The texts, split at whitespace."""
        return Words([text.split() for text in self.texts])


def blocks(pairs: Pairs) -> Iterator[Block]:
    """Cut pairs into blocks of at most `BLOCK`."""
    return (Block(pairs[start : start + BLOCK]) for start in range(0, len(pairs), BLOCK))


def levels(counts: Any, most: int) -> Any:
    """Return whether texts have n-grams 1, 2, ... `most` times, side by side: dot products count what two share."""
    from scipy.sparse import hstack

    return hstack([counts >= times for times in range(1, most + 1)], "csr")


def distinct_ngrams(texts: Sequence[str], order: int) -> float:
    """Divide the number of different n-grams (of `order` words) of all texts by that of n-grams; with more it falls."""
    different: set[tuple[str, ...]] = set()
    total = 0
    for text, times in Counter(checked_texts("texts", texts)).items():
        words = text.split()
        grams = list(zip(*(words[start:] for start in range(order))))
        different.update(grams)
        total += times * len(grams)
    return len(different) / total if total else 0.0


def occurrences(texts: Sequence[str]) -> Ints:
    """Return how often each different text occurs, by first appearance."""
    # Their hashes in the place of very many texts: two that have the same one are not to be met with.
    return np.bincount(numbered(np.fromiter(map(hash, texts), np.int64, len(texts)).view(np.uint64))[0])


def caption_entropy(texts: Sequence[str]) -> float:
    """Compute the entropy of the distribution of captions (Shannon 1948), 0 to log2(n) bits."""
    shares = occurrences(checked_texts("texts", texts)) / len(texts)
    return float(-(shares * np.log2(shares)).sum()) + 0.0  # no minus zero
