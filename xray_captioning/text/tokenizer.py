"""A word tokenizer: text to integer ids and back, kept as JSON."""

import json
import os
import pickle
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from xray_captioning.checkpoints.pickles import read_tokenizer_pickle
from xray_captioning.errors import ConfigError, DataError
from xray_captioning.files import atomic_write
from xray_captioning.text.token_ids import (
    HEADER,
    Ids,
    TokenIds,
    checked_content,
    checked_texts,
    read_content,
    room_for_words,
)

UNKNOWN, START, END = "<unk>", "<cls>", "<end>"
SPECIAL = (UNKNOWN, START, END)


@dataclass(frozen=True)
class Tokenizer(TokenIds):
    """Words and their ids: the word at position i has id i + 1, and 0 is padding.

    Texts are split at whitespace and nowhere else; `xray_captioning.text.cleaning` comes first.

    Parameters
    ----------
    words : tuple of str
        All words in the order of their ids, among them ``<unk>``, ``<cls>`` and ``<end>``.

    Raises
    ------
    DataError
        When a word is empty, not text or there twice, or a special one is missing.
    """

    words: tuple[str, ...]

    def __post_init__(self) -> None:
        for number, word in enumerate(self.words, 1):
            if not isinstance(word, str) or not word:
                raise DataError(f"the tokenizer's word {number} is empty or not text")
        if len(self.index) < len(self.words):
            twice = next(word for word, count in Counter(self.words).items() if count > 1)
            raise DataError(f"the tokenizer has the word {twice[:40]!r} twice; ids must be unique")
        missing = [word for word in SPECIAL if word not in self.index]
        if missing:
            raise DataError(f"the tokenizer lacks {', '.join(missing)}; add them and fit again")

    @classmethod
    def fit(
        cls,
        texts: Iterable[str],
        minimum_frequency: int = 1,
        maximum_words: int | None = None,
    ) -> Self:
        """Collect the words of cleaned texts.

        Parameters
        ----------
        texts : iterable of str
            Cleaned training texts.
        minimum_frequency : int, default 1
            Rarer words are left out and become ``<unk>``.
        maximum_words : int, optional
            At most so many words, the most frequent ones; special ones are not counted.

        Returns
        -------
        Tokenizer
            ``<unk>`` = 1, ``<cls>`` = 2, ``<end>`` = 3, then words by falling frequency, equally
            frequent ones by alphabet.

        Raises
        ------
        ConfigError
            When a limit is below 1.
        DataError
            When an entry is not text.
        """
        if minimum_frequency < 1 or (maximum_words is not None and maximum_words < 1):
            raise ConfigError("minimum_frequency and maximum_words must be at least 1")
        counts = Counter(word for text in checked_texts(texts) for word in text.split())
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        frequent = (word for word, n in ranked if n >= minimum_frequency and word not in SPECIAL)
        return cls(SPECIAL + tuple(frequent)[:maximum_words])

    @cached_property
    def index(self) -> dict[str, int]:
        """Id of every word, special ones included."""
        return {word: number for number, word in enumerate(self.words, 1)}

    @cached_property
    def _encodable(self) -> dict[str, int]:
        # A text that spells "<end>" must not end the caption in the middle.
        return {word: i for word, i in self.index.items() if word not in (START, END)}

    @property
    def vocabulary_size(self) -> int:
        """Number of ids, padding included: what an embedding or a softmax needs."""
        return len(self.words) + 1

    @property
    def start_id(self) -> int:
        """Id of ``<cls>``, with which every encoded text begins."""
        return self.index[START]

    @property
    def end_id(self) -> int:
        """Id of ``<end>``, with which every encoded text ends."""
        return self.index[END]

    @property
    def unknown_id(self) -> int:
        """Id of ``<unk>``, which stands for every word that is not known."""
        return self.index[UNKNOWN]

    def encode(self, text: str, maximum_length: int | None = None) -> list[int]:
        """Turn a cleaned text into start, one id a word, end; see `TokenIds.encode`."""
        words = text.split()[: room_for_words(maximum_length)]
        ids = (self._encodable.get(word, self.unknown_id) for word in words)
        return [self.start_id, *ids, self.end_id]

    def words_in(self, ids: Ids) -> list[tuple[str, list[int]]]:
        """Return each word with the position of its one token; see `TokenIds.words_in`."""
        return [(self.words[i - 1], [position]) for position, i in self._said(ids)]

    def _payload(self) -> dict[str, Any]:
        return {**HEADER, "kind": "words", "words": list(self.words)}

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Write ``{"format", "version", "kind", "words"}``, the words in the order of their ids.

        Parameters
        ----------
        path : str or os.PathLike
            File to write, whole or not at all.
        """
        atomic_write(Path(path), json.dumps(self._payload(), indent=0) + "\n")

    @classmethod
    def from_json(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `to_json` wrote.

        Parameters
        ----------
        path : str or os.PathLike
            File to read.

        Returns
        -------
        Tokenizer
            With every id as it was.

        Raises
        ------
        DataError
            When the file is missing, damaged or something else; the message names it.
        """
        return cls._from_content(read_content(path), path)

    def to_pickle(self, path: str | os.PathLike[str]) -> None:
        """Write the content of `to_json` as a pickled dictionary.

        It holds builtin types only, so ``pickle.load`` opens it with nothing installed.

        Parameters
        ----------
        path : str or os.PathLike
            File to write, whole or not at all.
        """
        atomic_write(Path(path), pickle.dumps(self._payload(), protocol=4))

    @classmethod
    def from_pickle(cls, path: str | os.PathLike[str]) -> Self:
        """Read a tokenizer pickled by `to_pickle` or by Keras, without running anything.

        Parameters
        ----------
        path : str or os.PathLike
            A pickle or joblib file; see `read_tokenizer_pickle` for what is accepted.

        Returns
        -------
        Tokenizer
            With the ids of the file. A Keras tokenizer's ``num_words`` is applied.

        Raises
        ------
        DataError
            When the file is anything else; the message names the file and what was found.
        """
        content = read_tokenizer_pickle(path)
        if "word_index" not in content:
            return cls._from_content(content, path)
        words = _words_by_id(content["word_index"], content.get("num_words"), path)
        return cls._from_content({**HEADER, "words": words}, path)

    @classmethod
    def _from_content(cls, content: Any, path: str | os.PathLike[str]) -> Self:
        """Check what a file holds and name the file where it is wrong."""
        content = checked_content(content, path)
        if content.get("kind", "words") != "words":
            raise DataError(f"{path}: holds no words but {content['kind']!r:.40}")
        if not isinstance(content.get("words"), list):
            raise DataError(f"{path}: the list of words is missing; write the file again")
        try:
            return cls(tuple(content["words"]))
        except DataError as error:
            raise DataError(f"{path}: {error}") from error


def _words_by_id(index: object, limit: object, path: str | os.PathLike[str]) -> list[str]:
    """List a Keras word index in the order of its ids, which must be 1, 2, 3, ..."""
    if not isinstance(index, dict) or not all(type(i) is int for i in index.values()):
        raise DataError(f"{path}: its word_index does not map words to whole numbers")
    kept = [(i, word) for word, i in index.items() if not isinstance(limit, int) or i < limit]
    pairs = sorted(kept, key=lambda pair: pair[0])
    for expected, (i, _) in enumerate(pairs, 1):
        if i != expected:
            raise DataError(f"{path}: its word_index has id {i} where {expected} was expected")
    return [word for _, word in pairs]
