"""What the tokenizers have in common: rows of ids, and the form of their files."""

import json
import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from xray_captioning import files
from xray_captioning.errors import ConfigError, DataError

PAD_ID = 0  # fills rows up to a common length; no word has this id
HEADER = {"format": "xray_captioning.tokenizer", "version": 1}
FilePath = str | os.PathLike[str]
Ids = Sequence[int] | NDArray[np.integer[Any]]
read_json = partial(files.read_json, advice="write it again", error_kind=DataError, of=Any)


class TokenIds(ABC):
    """Cleaned text to ids and back; a word is what stands between white space."""

    KIND: ClassVar[str]
    vocabulary_size: int  # number of ids, padding included
    start_id: int  # every encoded text begins with it
    end_id: int  # and ends with this one
    unknown_id: int  # of every unknown word; `PAD_ID` where every word is known

    @abstractmethod
    def encode(self, text: str, maximum_length: int | None = None) -> list[int]:
        """Turn a cleaned text into ids: start, words, end; words beyond `maximum_length`, at least 2, are left out."""

    @abstractmethod
    def words_in(self, ids: Ids) -> list[tuple[str, list[int]]]:
        """Return the words of a row of ids, each with the positions, one or more, of its tokens."""

    def encode_batch(self, texts: Iterable[str], maximum_length: int) -> NDArray[np.int32]:
        """Turn cleaned texts into ids, (texts, maximum_length) int32, zeros at the ends; DataError: one is no text."""
        encoded = [self.encode(text, maximum_length) for text in checked_texts(texts)]
        rows = np.full((len(encoded), maximum_length), PAD_ID, dtype=np.int32)
        for row, ids in zip(rows, encoded, strict=True):
            row[: len(ids)] = ids
        return rows

    def extended(self, texts: Iterable[str], minimum_frequency: int = 1) -> Self:
        """Return a tokenizer of the same ids that knows the words of further cleaned texts, too."""
        return self  # where parts of words spell every word

    def decode(self, ids: Ids) -> str:
        """Turn a row of ids into text, up to the end token; an id outside the vocabulary is a DataError."""
        return " ".join(word for word, _ in self.words_in(ids))

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._lists() == other._lists()

    def to_json(self, path: FilePath) -> None:
        """Write a ``tokenizer.json``, which `load_tokenizer` reads, whole or not at all."""
        files.atomic_write(Path(path), json.dumps(self._content(), indent=0) + "\n")

    @classmethod
    def from_content(cls, content: Any, path: FilePath) -> Self:
        """Build from what a file of any form held; a `DataError` names the file."""
        if not isinstance(content, dict) or content.get("format") != HEADER["format"]:
            raise DataError(f"{path}: not a tokenizer of this package; give its tokenizer.json")
        if content.get("version") != HEADER["version"]:
            raise DataError(f"{path}: written by a newer xray-captioning; update this one")
        if (kind := content.get("kind", "words")) != cls.KIND:
            raise DataError(f"{path}: holds {kind!r:.40}, not {cls.KIND!r}")
        try:
            return cls._from_checked(content)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error

    def _content(self) -> dict[str, Any]:
        return {**HEADER, "kind": self.KIND, **self._lists()}

    @abstractmethod
    def _lists(self) -> dict[str, Any]:
        """Return what a file holds besides its header."""

    @classmethod
    @abstractmethod
    def _from_checked(cls, content: dict[str, Any]) -> Self:
        """Build from a file's content, whose header is right."""

    def _spoken(self, ids: Ids) -> list[tuple[int, int]]:
        """Return position and id of each token before the end, without padding and first start."""
        kept = []
        for position, i in enumerate(map(int, ids)):
            if i == self.end_id:
                break
            if not 0 <= i < self.vocabulary_size:
                raise DataError(f"id {i} is outside the vocabulary of {self.vocabulary_size}")
            if i != PAD_ID:
                kept.append((position, i))
        return kept[1:] if kept and kept[0][1] == self.start_id else kept


def numbered(symbols: Sequence[str], needed: Sequence[str]) -> dict[str, int]:
    """Return ids from 1; a symbol empty, no text, twice or lacking is a DataError."""
    if wrong := [n for n, symbol in enumerate(symbols, 1) if not isinstance(symbol, str) or not symbol]:
        raise DataError(f"the tokenizer's word {wrong[0]} is empty or not text")
    index = {symbol: number for number, symbol in enumerate(symbols, 1)}
    if len(index) < len(symbols):
        twice = next(symbol for symbol, count in Counter(symbols).items() if count > 1)
        raise DataError(f"the tokenizer has {twice[:40]!r} twice; ids must be unique")
    if missing := [symbol for symbol in needed if symbol not in index]:
        raise DataError(f"the tokenizer lacks {', '.join(missing[:3])}; add what is missing")
    return index


def room_for_words(maximum_length: int | None) -> int | None:
    """Return how many ids fit between start and end, at least 0, or None without a limit."""
    if maximum_length is not None and maximum_length < 2:
        raise ConfigError(f"maximum_length is {maximum_length}: start and end need 2")
    return None if maximum_length is None else maximum_length - 2


def checked_texts(texts: Iterable[str]) -> Iterable[str]:
    """Yield texts; raise a DataError at the first entry that is none."""
    if isinstance(texts, str | Mapping) or hasattr(texts, "columns"):
        raise DataError(f"texts is {'one text' if isinstance(texts, str) else 'a table'}; give a list of texts")
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise DataError(f"texts[{row}] is not text but {type(text).__name__}; drop or fill it")
        yield text
