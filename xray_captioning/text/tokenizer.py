"""A word tokenizer: text to integer ids and back, kept as JSON."""

import os
import pickle
from collections import Counter
from collections.abc import Iterable
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
    numbered,
    room_for_words,
)

UNKNOWN, START, END = "<unk>", "<cls>", "<end>"
SPECIAL = (UNKNOWN, START, END)


class Tokenizer(TokenIds):
    """Words and their ids: the word at position i has id i + 1 (`index`), and 0 is padding.

    Texts are split at whitespace and nowhere else; `xray_captioning.text.cleaning` comes first.

    Parameters
    ----------
    words : tuple of str
        All words in the order of their ids, among them ``<unk>``, ``<cls>`` and ``<end>``.

    Raises
    ------
    DataError
        When a word is empty, not text or there twice, or a special one is missing.

    Examples
    --------
    >>> tokenizer = Tokenizer.fit(["no effusion .", "small effusion ."])
    >>> tokenizer.encode("no nodule .")
    [2, 6, 1, 4, 3]
    >>> tokenizer.decode([2, 6, 5, 4, 3])
    'no effusion .'
    """

    KIND = "words"

    def __init__(self, words: tuple[str, ...]) -> None:
        self.words = words
        self.index = numbered(words, SPECIAL)
        self.vocabulary_size = len(words) + 1
        self.unknown_id, self.start_id, self.end_id = (self.index[word] for word in SPECIAL)

    @classmethod
    def fit(cls, texts: Iterable[str], minimum_frequency: int = 1) -> Self:
        """Collect the words of cleaned texts.

        ``<unk>`` becomes 1, ``<cls>`` 2, ``<end>`` 3; then come words by falling frequency, equally
        frequent ones by alphabet.

        Parameters
        ----------
        texts : iterable of str
            Cleaned training texts.
        minimum_frequency : int
            Rarer words are left out and become ``<unk>``; at least 1.

        Returns
        -------
        Tokenizer

        Raises
        ------
        ConfigError
            When `minimum_frequency` is below 1.
        DataError
            When an entry is not text.
        """
        if minimum_frequency < 1:
            raise ConfigError(f"minimum_frequency is {minimum_frequency}; it must be at least 1")
        counts = Counter(word for text in checked_texts(texts) for word in text.split())
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        frequent = (word for word, n in ranked if n >= minimum_frequency and word not in SPECIAL)
        return cls(SPECIAL + tuple(frequent))

    def encode(self, text: str, maximum_length: int | None = None) -> list[int]:
        """Turn a cleaned text into start, one id a word, end; see `TokenIds.encode`."""
        words = text.split()[: room_for_words(maximum_length)]
        ids = (self.index.get(word, self.unknown_id) for word in words)
        # A text that spells "<end>" must not end the caption in the middle.
        special = (self.start_id, self.end_id)
        return [self.start_id, *(self.unknown_id if i in special else i for i in ids), self.end_id]

    def words_in(self, ids: Ids) -> list[tuple[str, list[int]]]:
        """Return each word with the position of its one token; see `TokenIds.words_in`."""
        return [(self.words[i - 1], [position]) for position, i in self._spoken(ids)]

    def to_pickle(self, path: str | os.PathLike[str]) -> None:
        """Write the content of `to_json` as a pickled dictionary, whole or not at all.

        It holds builtin types only, so ``pickle.load`` opens it with nothing installed.
        """
        atomic_write(Path(path), pickle.dumps(self._content(), protocol=4))

    @classmethod
    def from_pickle(cls, path: str | os.PathLike[str]) -> Self:
        """Read a tokenizer pickled by `to_pickle` or by Keras, without running anything.

        It keeps the ids of the file; a Keras tokenizer's ``num_words`` is applied.

        Parameters
        ----------
        path : str or os.PathLike
            A file that :func:`~xray_captioning.checkpoints.pickles.read_tokenizer_pickle` accepts.

        Returns
        -------
        Tokenizer

        Raises
        ------
        DataError
            When the file is anything else; the message names the file and what was found.
        """
        content = read_tokenizer_pickle(path)
        if "word_index" in content:
            words = _words_by_id(content["word_index"], content.get("num_words"), path)
            content = {**HEADER, "words": words}
        return cls.from_content(checked_content(content, path), path)

    def _lists(self) -> dict[str, list[str]]:
        return {"words": list(self.words)}

    @classmethod
    def _from_checked(cls, content: dict[str, Any]) -> Self:
        if not isinstance(content.get("words"), list):
            raise DataError("the list of words is missing; write the file again")
        return cls(tuple(content["words"]))


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
