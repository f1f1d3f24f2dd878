"""What the tokenizers have in common: rows of ids, and the form of their files."""

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xray_captioning.errors import ConfigError, DataError

PAD_ID = 0
"""Fills rows up to a common length; no word has this id."""

HEADER = {"format": "xray_captioning.tokenizer", "version": 1}

Ids = Sequence[int] | NDArray[np.integer[Any]]


class TokenIds(ABC):
    """Cleaned text to ids and back; a word is what stands between white space."""

    @property
    @abstractmethod
    def vocabulary_size(self) -> int:
        """Number of ids, padding included: what an embedding or a softmax needs."""

    @property
    @abstractmethod
    def start_id(self) -> int:
        """Id with which every encoded text begins."""

    @property
    @abstractmethod
    def end_id(self) -> int:
        """Id with which every encoded text ends."""

    @property
    @abstractmethod
    def unknown_id(self) -> int:
        """Id that stands for every word that is not known; padding where all are."""

    @abstractmethod
    def encode(self, text: str, maximum_length: int | None = None) -> list[int]:
        """Turn a cleaned text into ids.

        Parameters
        ----------
        text : str
            Words separated by whitespace.
        maximum_length : int, optional
            Longest result, at least 2; longer texts lose their last words, never the end.

        Returns
        -------
        list of int
            Start, the words' ids, end.

        Raises
        ------
        ConfigError
            When `maximum_length` leaves no room for start and end.
        """

    @abstractmethod
    def words_in(self, ids: Ids) -> list[tuple[str, list[int]]]:
        """Return the words of decoded ids, each with the positions of its tokens in ``ids``.

        Parameters
        ----------
        ids : sequence of int
            One row, as encoded or as a search found it.

        Returns
        -------
        list of (str, list of int)
            No list of positions is empty.

        Raises
        ------
        DataError
            When an id is outside the vocabulary.
        """

    @abstractmethod
    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Write a file, whole or not at all.

        Parameters
        ----------
        path : str or os.PathLike
            File to write.
        """

    def encode_batch(self, texts: Iterable[str], maximum_length: int) -> NDArray[np.int32]:
        """Turn cleaned texts into rows of equal length.

        Parameters
        ----------
        texts : iterable of str
            Cleaned texts.
        maximum_length : int
            Length of every row, at least 2.

        Returns
        -------
        ndarray of int32, shape (texts, maximum_length)
            Start, words, end, then zeros.

        Raises
        ------
        ConfigError
            When `maximum_length` leaves no room for start and end.
        DataError
            When an entry is not text.
        """
        encoded = [self.encode(text, maximum_length) for text in checked_texts(texts)]
        rows = np.full((len(encoded), maximum_length), PAD_ID, dtype=np.int32)
        for row, ids in zip(rows, encoded, strict=True):
            row[: len(ids)] = ids
        return rows

    def decode(self, ids: Ids) -> str:
        """Turn ids into text: up to the end token, without start and padding.

        Parameters
        ----------
        ids : sequence of int
            One row, as encoded or as a search found it.

        Returns
        -------
        str
            Words joined by single spaces.

        Raises
        ------
        DataError
            When an id is outside the vocabulary.
        """
        return " ".join(word for word, _ in self.words_in(ids))

    def _said(self, ids: Ids) -> list[tuple[int, int]]:
        """Return position and id of each token before the end, without padding and first start."""
        kept = []
        for position, i in enumerate(map(int, ids)):
            if i == self.end_id:
                break
            if not 0 <= i < self.vocabulary_size:
                raise DataError(f"id {i} is outside the vocabulary of {self.vocabulary_size}")
            if i != PAD_ID and (position, i) != (0, self.start_id):
                kept.append((position, i))
        return kept


def room_for_words(maximum_length: int | None) -> int | None:
    """Return how many ids fit between start and end, or None where there is no limit.

    Raises
    ------
    ConfigError
        When there is no room for start and end.
    """
    if maximum_length is not None and maximum_length < 2:
        raise ConfigError(f"maximum_length is {maximum_length}: start and end need 2")
    return None if maximum_length is None else maximum_length - 2


def checked_texts(texts: Iterable[str]) -> Iterable[str]:
    """Yield texts, or raise a DataError that names the first entry that is none."""
    if isinstance(texts, str):
        raise DataError("texts is one text; give a list of texts")
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise DataError(f"texts[{row}] is not text but {type(text).__name__}; drop or fill it")
        yield text


def read_content(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a ``tokenizer.json`` and check what every kind has in common.

    Raises
    ------
    DataError
        When the file is missing, damaged or something else; the message names it.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: damaged or not JSON ({error}); write it again") from error
    return checked_content(content, path)


def checked_content(content: Any, path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what a file of any form held, or raise a DataError that names the file."""
    if not isinstance(content, dict) or content.get("format") != HEADER["format"]:
        raise DataError(f"{path}: not a tokenizer of this package; give its tokenizer.json")
    if content.get("version") != HEADER["version"]:
        raise DataError(f"{path}: written by a newer xray-captioning; update this one")
    return content
