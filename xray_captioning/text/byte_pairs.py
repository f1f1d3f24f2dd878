"""GPT-2's byte pairs: text to integer ids and back without any unknown word."""

from __future__ import annotations

import json
import os
import re
from bisect import bisect_left, bisect_right
from collections import Counter
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

from xray_captioning.errors import DataError
from xray_captioning.files import atomic_write
from xray_captioning.text.token_ids import (
    HEADER,
    PAD_ID,
    Ids,
    TokenIds,
    read_content,
    room_for_words,
)
from xray_captioning.text.tokenizer import Tokenizer

END = "<|endoftext|>"
KIND = "byte_pairs"

# Pieces that merges never cross: a contraction's end, letters, digits or other signs with one
# space before them, and white space.
_PIECE = r"'(?:s|t|re|ve|m|ll|d)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


@dataclass(frozen=True)
class BytePairTokenizer(TokenIds):
    """Byte-level byte-pair encoding with the vocabulary and merges of a GPT-2.

    The symbol at position i has id i + 1, and 0 is padding. ``<|endoftext|>`` ends a text; a new
    id after the last begins it, because a search never chooses the id it starts from.

    Parameters
    ----------
    vocabulary : tuple of str
        All symbols in the order of their ids, in GPT-2's printable spelling of bytes; among them
        the 256 single bytes and ``<|endoftext|>``.
    merges : tuple of pairs of str
        Which two symbols become one, the first one first.

    Raises
    ------
    DataError
        When a symbol is there twice or missing, or a merge names symbols that are not there.

    References
    ----------
    .. [1] Sennrich et al., arXiv:1508.07909 (byte pairs); Radford et al., "Language Models are
       Unsupervised Multitask Learners", 2019, section 2.2 (over bytes).
    """

    vocabulary: tuple[str, ...]
    merges: tuple[tuple[str, str], ...]

    def __post_init__(self) -> None:
        if not all(isinstance(symbol, str) and symbol for symbol in self.vocabulary):
            raise DataError("a symbol of the byte pairs is empty or not text")
        if len(self.index) < len(self.vocabulary):
            twice = next(s for s, count in Counter(self.vocabulary).items() if count > 1)
            raise DataError(f"the byte pairs have {twice[:40]!r} twice; ids must be unique")
        missing = [symbol for symbol in (END, *_ALPHABET) if symbol not in self.index]
        if missing:
            raise DataError(f"the byte pairs lack {missing[0]!r}; GPT-2's vocabulary has it")
        for number, (first, second) in enumerate(self.merges, 1):
            for symbol in (first, second, first + second):
                if symbol not in self.index:
                    raise DataError(
                        f"merge {number} of the byte pairs names the unknown {symbol!r}"
                    )

    @cached_property
    def index(self) -> dict[str, int]:
        """Id of every symbol."""
        return {symbol: number for number, symbol in enumerate(self.vocabulary, 1)}

    @property
    def vocabulary_size(self) -> int:
        """Number of ids, padding and start included: what an embedding or a softmax needs."""
        return len(self.vocabulary) + 2

    @property
    def start_id(self) -> int:
        """Id with which every encoded text begins; no symbol has it."""
        return len(self.vocabulary) + 1

    @property
    def end_id(self) -> int:
        """Id of ``<|endoftext|>``, with which every encoded text ends."""
        return self.index[END]

    @property
    def unknown_id(self) -> int:
        """Padding: bytes spell every word, so that none is unknown."""
        return PAD_ID

    def encode(self, text: str, maximum_length: int | None = None) -> list[int]:
        """Turn a cleaned text into start, one or more ids a word, end; see `TokenIds.encode`."""
        room = room_for_words(maximum_length)
        ids = self._ids(" ".join(text.split()))
        if room is not None and len(ids) > room:
            # A word cut in the middle would be another word.
            ends = [tokens[-1] + 1 for _, tokens in self.words_in(ids[: room + 1])]
            ids = ids[: max((end for end in ends if end <= room), default=0)]
        return [self.start_id, *ids, self.end_id]

    def words_in(self, ids: Ids) -> list[tuple[str, list[int]]]:
        """Return each word with the positions of its tokens; see `TokenIds.words_in`.

        White space goes with the word after it, as GPT-2 has it. Bytes that are no UTF-8 become
        the replacement character. A token that spells parts of two words belongs to both.
        """
        kept = [(place, i) for place, i in self._said(ids) if i != self.start_id]  # spells nothing
        positions = [position for position, _ in kept]
        stops = list(accumulate(len(self._bytes[i]) for _, i in kept))
        text = b"".join(self._bytes[i] for _, i in kept).decode("utf-8", _KEEP)
        words, stop = [], 0
        for gap, word in re.findall(r"(\s*)(\S+)", text):
            start, spelled = stop, word.encode("utf-8", _KEEP)
            stop = start + len(gap.encode()) + len(spelled)
            # From the token that holds the first byte, of the space before it, to the last byte's.
            tokens = slice(bisect_right(stops, start), bisect_left(stops, stop) + 1)
            words.append((spelled.decode("utf-8", "replace"), positions[tokens]))
        return words

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Write ``{"format", "version", "kind", "vocabulary", "merges"}``, whole or not at all."""
        merges = [" ".join(pair) for pair in self.merges]
        content = {**HEADER, "kind": KIND, "vocabulary": list(self.vocabulary), "merges": merges}
        atomic_write(Path(path), json.dumps(content, indent=0) + "\n")

    @classmethod
    def from_json(cls, path: str | os.PathLike[str]) -> BytePairTokenizer:
        """Read what `to_json` wrote.

        Raises
        ------
        DataError
            When the file is missing, damaged or something else; the message names it.
        """
        content = read_content(path)
        if content.get("kind") != KIND:
            raise DataError(f"{path}: holds no byte pairs; open it with load_tokenizer")
        try:
            return cls.from_lists(content.get("vocabulary"), content.get("merges"))
        except DataError as error:
            raise DataError(f"{path}: {error}") from error

    @classmethod
    def from_lists(cls, vocabulary: Any, merges: Any) -> BytePairTokenizer:
        """Build from what a file holds.

        Parameters
        ----------
        vocabulary : list of str, or dict of str to int
            Symbols in the order of their ids, or with their ids 0, 1, 2, ...
        merges : list of str, or of pairs of str
            Lines such as "a b".

        Raises
        ------
        DataError
            When they are something else.
        """
        if isinstance(vocabulary, dict):
            if sorted(map(str, vocabulary.values())) != sorted(map(str, range(len(vocabulary)))):
                raise DataError("the ids of the byte pairs' vocabulary are not 0, 1, 2, ...")
            vocabulary = sorted(vocabulary, key=vocabulary.__getitem__)
        if not isinstance(vocabulary, list) or not isinstance(merges, list):
            raise DataError(
                "the byte pairs' vocabulary or merges are missing; write the file again"
            )
        return cls(tuple(vocabulary), tuple(map(_pair, merges)))

    def _ids(self, text: str) -> list[int]:
        return [i for piece in self._pieces(text) for i in self._merged(piece)]

    @cached_property
    def _pieces(self) -> Any:
        import regex  # the standard library's has no classes of letters and numbers

        return regex.compile(_PIECE).findall

    @cached_property
    def _merged(self) -> Any:
        ranks = {pair: rank for rank, pair in enumerate(self.merges)}

        @lru_cache(maxsize=2**14)
        def merged(piece: str) -> list[int]:
            symbols = [_SYMBOLS[byte] for byte in piece.encode("utf-8", "replace")]
            while known := [pair for pair in pairwise(symbols) if pair in ranks]:
                symbols = _join(symbols, min(known, key=ranks.__getitem__))
            return [self.index[symbol] for symbol in symbols]

        return merged

    @cached_property
    def _bytes(self) -> dict[int, bytes]:
        return {i: _spelled(symbol) for symbol, i in self.index.items()}


def load_tokenizer(path: str | os.PathLike[str]) -> Tokenizer | BytePairTokenizer:
    """Read a ``tokenizer.json`` of either kind; one that does not say which holds words.

    Raises
    ------
    DataError
        When the file is missing, damaged or something else; the message names it.
    """
    pairs = read_content(path).get("kind") == KIND
    return BytePairTokenizer.from_json(path) if pairs else Tokenizer.from_json(path)


def _pair(line: Any) -> tuple[str, str]:
    parts = line.split(" ") if isinstance(line, str) else line
    if not isinstance(parts, (list, tuple)) or [type(part) for part in parts] != [str, str]:
        raise DataError(f"the merge {line!r:.60} of the byte pairs is not two symbols")
    return parts[0], parts[1]


def _join(symbols: list[str], pair: tuple[str, str]) -> list[str]:
    """Join every occurrence of a pair, from left to right."""
    joined: list[str] = []
    for symbol in symbols:
        if joined and (joined[-1], symbol) == pair:
            joined[-1] += symbol
        else:
            joined.append(symbol)
    return joined


def _printable() -> list[str]:
    """Return GPT-2's character for each byte: itself where it can be seen, else one from 256 on."""
    seen = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(byte if byte in seen else next(others)) for byte in range(256)]


_SYMBOLS = _printable()
_ALPHABET = {symbol: byte for byte, symbol in enumerate(_SYMBOLS)}
_KEEP = "surrogateescape"  # bytes that are no UTF-8, there and back


def _spelled(symbol: str) -> bytes:
    # A special symbol may hold characters that stand for no byte.
    if all(character in _ALPHABET for character in symbol):
        return bytes(_ALPHABET[character] for character in symbol)
    return symbol.encode()
