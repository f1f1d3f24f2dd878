"""Tokenizers, of words and of GPT-2's byte pairs: text to integer ids and back, kept as JSON."""

import json
import pickle
import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, Self

from xray_captioning.checkpoints.pickles import read_tokenizer_pickle
from xray_captioning.errors import ConfigError, DataError, require
from xray_captioning.files import atomic_write, read_toml
from xray_captioning.text import token_ids
from xray_captioning.text.token_ids import HEADER, PAD_ID, FilePath, Ids, TokenIds

UNKNOWN, START, END = "<unk>", "<cls>", "<end>"
SPECIAL = (UNKNOWN, START, END)
Marks = tuple[str | None, str, str]


class Tokenizer(TokenIds):
    """Words and their ids: the word at position i has id i + 1 (`index`), and 0 is padding.

    Parameters
    ----------
    words : tuple of str
        All words in the order of their ids, among them the marks.
    marks : tuple of str
        The word for unknown ones, that which begins a text, and that which ends it. Without the first, None, unknown
        words are left out, as Keras does without ``oov_token``.
    filters, lower : str, bool
        Characters that part words, beside whitespace, and whether texts are put in lower case, as in Keras.

    Raises
    ------
    DataError
        When a word is empty, not text or there twice, or a mark is missing.

    Examples
    --------
    >>> tokenizer = Tokenizer.fit(["no effusion .", "small effusion ."])
    >>> tokenizer.encode("no nodule .")
    [2, 6, 1, 4, 3]
    >>> tokenizer.decode([2, 6, 5, 4, 3])
    'no effusion .'
    """

    KIND = "words"

    def __init__(self, words: tuple[str, ...], marks: Marks = SPECIAL, filters: str = "", lower: bool = False) -> None:
        unknown, start, end = marks
        self.words, self.marks, self.filters, self.lower = words, marks, filters, lower
        self.index = token_ids.numbered(words, [mark for mark in marks if mark is not None])
        self.vocabulary_size = len(words) + 1
        self.unknown_id = PAD_ID if unknown is None else self.index[unknown]
        self.start_id, self.end_id = self.index[start], self.index[end]

    @property
    def word_index(self) -> dict[str, int]:
        """Return the id of each word, as Keras' tokenizer has it; padding, 0, is no word."""
        return dict(self.index)

    @property
    def index_word(self) -> dict[int, str]:
        """Return the word of each id, as Keras' tokenizer has it; 0, padding, is not among them."""
        return dict(enumerate(self.words, 1))

    @classmethod
    def fit(cls, texts: Iterable[str], minimum_frequency: int = 1) -> Self:
        """Collect the words of cleaned texts: 1 is ``<unk>``, 2 ``<cls>``, 3 ``<end>``; then come words by falling
        frequency, equally frequent ones by alphabet. Those rarer than `minimum_frequency`, at least 1 (ConfigError),
        become ``<unk>``. An entry that is no text is a DataError.
        """
        if minimum_frequency < 1:
            raise ConfigError(f"minimum_frequency is {minimum_frequency}; it must be at least 1")
        counts = Counter(word for text in token_ids.checked_texts(texts) for word in text.split())
        frequent = (word for word, n in counts.items() if n >= minimum_frequency and word not in SPECIAL)
        return cls(SPECIAL + tuple(sorted(frequent, key=lambda word: (-counts[word], word))))

    def extended(self, texts: Iterable[str], minimum_frequency: int = 1) -> Self:
        """Return a tokenizer with the same ids, and the words of further texts after its own."""
        found = Tokenizer.fit(map(self._plain, token_ids.checked_texts(texts)), minimum_frequency)
        words = dict.fromkeys((*self.words, *found.words[len(SPECIAL) :]))
        return type(self)(tuple(words), self.marks, self.filters, self.lower)

    def _plain(self, text: str) -> str:
        return (text.lower() if self.lower else text).translate(dict.fromkeys(map(ord, self.filters), " "))

    def encode(self, text: str, maximum_length: int | None = None) -> list[int]:
        """Turn a cleaned text into start, one id per word, end; see `TokenIds.encode`."""
        (text,) = token_ids.checked_texts([text])
        room = token_ids.room_for_words(maximum_length)
        ids = [self.index.get(word, self.unknown_id) for word in self._plain(text).split()]
        # A text that spells "<end>" must not end the caption in the middle.
        ids = [self.unknown_id if i in (self.start_id, self.end_id) else i for i in ids]
        return [self.start_id, *[i for i in ids if i != PAD_ID][:room], self.end_id]

    def words_in(self, ids: Ids) -> list[tuple[str, list[int]]]:
        """Return each word and its token's position; a start in the middle is left out, not ``<cls>``, as published."""
        left_out = None if self.marks == SPECIAL else self.start_id
        return [(self.words[i - 1], [p]) for p, i in self._spoken(ids) if i != left_out]

    def to_pickle(self, path: FilePath) -> None:
        """Write what `to_json` writes as a pickled dictionary of builtin types, whole or not at all."""
        atomic_write(Path(path), pickle.dumps(self._content(), protocol=4))

    @classmethod
    def from_pickle(cls, path: FilePath, start: str | None = None, end: str | None = None) -> Self:
        """Read a tokenizer pickled by `to_pickle` or by Keras, or a dictionary of words and ids, running nothing.

        It keeps the ids of the file; ``num_words``, ``oov_token``, ``filters`` and ``lower`` are applied.

        Parameters
        ----------
        path : str or os.PathLike
            A file that :func:`~xray_captioning.checkpoints.pickles.read_tokenizer_pickle` accepts.
        start, end : str, optional
            The words of a Keras tokenizer that begin and end a text; by default they are found, such as ``startseq``.

        Raises
        ------
        DataError
            When the file is anything else; the message names the file and what was found.
        """
        return cls.from_content(_from_keras(read_tokenizer_pickle(path), path, start, end), path)

    @classmethod
    def from_json(cls, path: FilePath, start: str | None = None, end: str | None = None) -> Self:
        """Read what `to_json` wrote, or ``to_json()`` of a Keras tokenizer; see `from_pickle`."""
        return cls.from_content(_from_keras(token_ids.read_json(Path(path)), path, start, end), path)

    def _lists(self) -> dict[str, Any]:
        marks = {"marks": list(self.marks)} if self.marks != SPECIAL else {}
        told = {"filters": self.filters, "lower": self.lower} if self.filters or self.lower else {}
        return {"words": list(self.words), **marks, **told}

    @classmethod
    def _from_checked(cls, content: dict[str, Any]) -> Self:
        if not isinstance(content.get("words"), list):
            raise DataError("the list of words is missing; write the file again")
        marks, filters = content.get("marks", SPECIAL), content.get("filters", "")
        if [type(mark) for mark in marks[1:]] != [str, str] or not isinstance(filters, str):
            raise DataError("its marks or filters are damaged; write the file again")
        return cls(tuple(content["words"]), tuple(marks), filters, content.get("lower") is True)


# --- what a Keras Tokenizer holds, of a pickle or of its to_json() ---

PAIRS, PLAIN_PAIRS, _UNKNOWNS, PADS = read_toml(__file__, "tokenizer.toml").values()


def _from_keras(content: Any, path: FilePath, start: str | None, end: str | None) -> Any:
    """Return the content of a ``tokenizer.json``, of a Keras tokenizer in any form; anything else as it is."""
    config = _config(content)
    if (index := _word_index(config)) is None:
        return content
    words = _words_by_id(index, config.get("num_words"), path)
    if config.get("char_level"):
        raise DataError(f"{path}: a tokenizer of characters, not of words; fit one of words")
    first, last = _marks(words, config, path, start, end)
    lower = {word.lower(): word for word in reversed(words) if isinstance(word, str)}
    unknown = config.get("oov_token") or next((lower[w] for w in _UNKNOWNS if w in lower), None)
    marks = [unknown if unknown in words else None, first, last]
    told = {"filters": config.get("filters") or "", "lower": bool(config.get("lower"))}
    return {**HEADER, "words": words, "marks": marks, **told}


def _config(content: Any) -> dict[Any, Any]:
    """Return the attributes; in what `to_json` writes, dictionaries are texts of JSON again."""
    try:
        content = json.loads(content) if isinstance(content, str) else content
        if isinstance(content, dict) and isinstance(content.get("config"), dict):
            content = content["config"]
            texts = {k: v for k, v in content.items() if isinstance(v, str) and v.startswith("{")}
            content = content | {name: json.loads(text) for name, text in texts.items()}
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _word_index(config: dict[Any, Any]) -> object:
    """Return what maps words to ids, or None."""
    kinds = {(type(key), type(value)) for key, value in config.items()}
    if kinds == {(int, str)}:
        return {word: number for number, word in config.items()}
    return config.get("word_index", config if kinds == {(str, int)} else None)


def _words_by_id(index: object, limit: object, path: FilePath) -> list[str]:
    """List a word index in the order of its ids, which must be 1, 2, 3, ...; 0 may be padding."""
    if not isinstance(index, dict) or not all(type(i) is int for i in index.values()):
        raise DataError(f"{path}: its word_index does not map words to whole numbers")
    kept = [(i, word) for word, i in index.items() if not isinstance(limit, int) or i < limit]
    pairs = sorted((pair for pair in kept if pair[0] or pair[1] not in PADS), key=lambda pair: pair[0])
    for expected, (i, _) in enumerate(pairs, 1):
        if i != expected:
            raise DataError(f"{path}: its word_index has id {i} where {expected} was expected")
    return [word for _, word in pairs]


def _marks(
    words: list[str], config: dict[str, Any], path: FilePath, start: str | None, end: str | None
) -> tuple[str, str]:
    if start is not None and end is not None:
        if missing := [word for word in (start, end) if word not in words]:
            raise DataError(f"{path}: has no word {missing[0][:40]!r}; name a word it has")
        return start, end
    lower = {str(word).lower(): word for word in reversed(words)}
    texts, counted = config.get("document_count"), config.get("word_docs")
    counted = counted if isinstance(counted, dict) else {}
    for first, last in (*PAIRS, *PLAIN_PAIRS):
        # Plain words are marks where they stand in every text that was counted.
        often = [counted.get(word, texts) for word in (first, last)] if texts else []
        rare = [first, last] in PLAIN_PAIRS and any(number != texts for number in often)
        if first in lower and last in lower and not rare:
            return start or lower[first], end or lower[last]
    what = "has no words that begin and end a text, such as startseq and endseq, among those it keeps"
    raise DataError(f"{path}: {what}; name them (start and end; --start-word and --end-word)")


# --- byte pairs, which know every word ---

END_OF_TEXT = "<|endoftext|>"
# The byte of each of GPT-2's symbols, which is its character or, if that cannot be seen, one from 256 on.
_SEEN = {*range(33, 127), *range(161, 173), *range(174, 256)}
_OTHERS = iter(range(256, 512))
_BYTES = {chr(byte if byte in _SEEN else next(_OTHERS)): byte for byte in range(256)}
_KEEP = "surrogateescape"  # bytes that are no UTF-8, there and back


class BytePairTokenizer(TokenIds):
    """Byte-level byte-pair encoding with the vocabulary and merges of a GPT-2.

    The symbol at position i has id i + 1 (`index`), and 0 is padding. ``<|endoftext|>`` ends a text; a new id after
    the last begins it, because a search never chooses the id it starts from. Only `encode` needs the package
    ``tokenizers``. Merges say which two symbols become one, the first one first (Sennrich et al., arXiv:1508.07909;
    over bytes, Radford et al. 2019, section 2.2). A symbol that is there twice or missing is a DataError.
    """

    KIND = "byte_pairs"
    unknown_id = PAD_ID  # bytes spell every word, so that none is unknown

    def __init__(self, vocabulary: tuple[str, ...], merges: tuple[tuple[str, str], ...]) -> None:
        self.vocabulary, self.merges = vocabulary, merges
        self.index = token_ids.numbered(vocabulary, (END_OF_TEXT, *_BYTES))
        for number, (first, second) in enumerate(merges, 1):
            if lost := {first, second, first + second} - self.index.keys():
                raise DataError(f"merge {number} of the byte pairs has the unknown {min(lost)!r}")
        self.end_id = self.index[END_OF_TEXT]
        self.start_id, self.vocabulary_size = len(vocabulary) + 1, len(vocabulary) + 2  # the size has padding and start

    def encode(self, text: str, maximum_length: int | None = None) -> list[int]:
        """Turn a cleaned text into start, one or more ids a word, end; see `TokenIds.encode`."""
        (text,) = token_ids.checked_texts([text])
        room = token_ids.room_for_words(maximum_length)
        ids = self._encoder.encode(" ".join(text.split()).encode("utf-8", "replace").decode()).ids  # no lone surrogates
        if room is not None and len(ids) > room:
            # A word cut in the middle would be another word.
            ends = [tokens[-1] + 1 for _, tokens in self.words_in(ids[: room + 1])]
            ids = ids[: max((end for end in ends if end <= room), default=0)]
        return [self.start_id, *ids, self.end_id]

    def words_in(self, ids: Ids) -> list[tuple[str, list[int]]]:
        """Return words with their tokens' positions; a token of two words belongs to both; no UTF-8 is replaced."""
        kept = [(p, i) for p, i in self._spoken(ids) if i != self.start_id]  # it spells nothing
        positions, symbols = [p for p, _ in kept], [self.vocabulary[i - 1] for _, i in kept]
        # A special symbol may hold characters that stand for no byte.
        spelled = [bytes(map(_BYTES.__getitem__, s)) if _BYTES.keys() >= {*s} else s.encode() for s in symbols]
        stops = list(accumulate(map(len, spelled)))
        words, stop = [], 0
        for gap, word in re.findall(r"(\s*)(\S+)", b"".join(spelled).decode("utf-8", _KEEP)):
            start, content = stop, word.encode("utf-8", _KEEP)
            stop = start + len(gap.encode()) + len(content)
            # From the token that holds the first byte, of the space before it, to the last byte's.
            tokens = slice(bisect_right(stops, start), bisect_left(stops, stop) + 1)
            words.append((content.decode("utf-8", "replace"), positions[tokens]))
        return words

    @classmethod
    def from_lists(cls, vocabulary: Any, merges: Any) -> Self:
        """Build from symbols in order, or a dict of ids 0, 1, ..., and merges, "a b" or pairs."""
        if isinstance(vocabulary, dict):
            if sorted(map(str, vocabulary.values())) != sorted(map(str, range(len(vocabulary)))):
                raise DataError("the ids of the byte pairs' vocabulary are not 0, 1, 2, ...")
            vocabulary = sorted(vocabulary, key=vocabulary.__getitem__)
        if not isinstance(vocabulary, list) or not isinstance(merges, list):
            raise DataError("the vocabulary or merges are missing; write the file again")
        return cls(tuple(vocabulary), tuple(map(_pair, merges)))

    @cached_property
    def _encoder(self) -> Any:
        tokenizers = require("tokenizers", "byte pairs", "hub")
        encoder = tokenizers.Tokenizer(tokenizers.models.BPE(self.index, list(self.merges)))
        encoder.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        return encoder

    def _lists(self) -> dict[str, list[str]]:
        return {"vocabulary": list(self.vocabulary), "merges": [" ".join(m) for m in self.merges]}

    @classmethod
    def _from_checked(cls, content: dict[str, Any]) -> Self:
        return cls.from_lists(content.get("vocabulary"), content.get("merges"))


def load_tokenizer(path: FilePath) -> Tokenizer | BytePairTokenizer:
    """Read a ``tokenizer.json`` of either kind; one that does not say which holds words."""
    content = token_ids.read_json(Path(path))
    pairs = isinstance(content, dict) and content.get("kind") == BytePairTokenizer.KIND
    return (BytePairTokenizer if pairs else Tokenizer).from_content(content, path)


def _pair(line: Any) -> tuple[str, str]:
    parts = line.split(" ") if isinstance(line, str) else line
    if not isinstance(parts, (list, tuple)) or [type(part) for part in parts] != [str, str]:
        raise DataError(f"the merge {line!r:.60} of the byte pairs is not two symbols")
    return parts[0], parts[1]
