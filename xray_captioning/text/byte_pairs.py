"""GPT-2's byte pairs: text to integer ids and back without any unknown word."""

import re
from bisect import bisect_left, bisect_right
from functools import cached_property
from itertools import accumulate
from typing import Any, Self

from xray_captioning.errors import DataError, require
from xray_captioning.text import token_ids
from xray_captioning.text.token_ids import PAD_ID, FilePath, Ids, TokenIds
from xray_captioning.text.tokenizer import Tokenizer

END = "<|endoftext|>"


class BytePairTokenizer(TokenIds):
    """Byte-level byte-pair encoding with the vocabulary and merges of a GPT-2.

    The symbol at position i has id i + 1 (`index`), and 0 is padding. ``<|endoftext|>`` ends a text; a
    new id after the last begins it, because a search never chooses the id it starts from. Only `encode`
    needs the package ``tokenizers``. Merges say which two symbols, in GPT-2's spelling of bytes, become
    one, the first one first (Sennrich et al., arXiv:1508.07909; over bytes, Radford et al., "Language
    Models are Unsupervised Multitask Learners", 2019, section 2.2). A symbol that is there twice or
    missing is a DataError.
    """

    KIND = "byte_pairs"
    unknown_id = PAD_ID  # bytes spell every word, so that none is unknown

    def __init__(self, vocabulary: tuple[str, ...], merges: tuple[tuple[str, str], ...]) -> None:
        self.vocabulary, self.merges = vocabulary, merges
        self.index = token_ids.numbered(vocabulary, (END, *_BYTES))
        for number, (first, second) in enumerate(merges, 1):
            if lost := {first, second, first + second} - self.index.keys():
                raise DataError(f"merge {number} of the byte pairs has the unknown {min(lost)!r}")
        self.end_id = self.index[END]
        self.start_id = len(vocabulary) + 1
        self.vocabulary_size = len(vocabulary) + 2  # padding and start

    def encode(self, text: str, maximum_length: int | None = None) -> list[int]:
        """Turn a cleaned text into start, one or more ids a word, end; see `TokenIds.encode`."""
        room = token_ids.room_for_words(maximum_length)
        spelled = " ".join(text.split()).encode("utf-8", "replace").decode()  # no lone surrogates
        ids = self._encoder.encode(spelled).ids
        if room is not None and len(ids) > room:
            # A word cut in the middle would be another word.
            ends = [tokens[-1] + 1 for _, tokens in self.words_in(ids[: room + 1])]
            ids = ids[: max((end for end in ends if end <= room), default=0)]
        return [self.start_id, *ids, self.end_id]

    def words_in(self, ids: Ids) -> list[tuple[str, list[int]]]:
        """Return each word with the positions of its tokens; bytes that are no UTF-8 become the
        replacement character, and a token that spells parts of two words belongs to both.
        """
        kept = [(p, i) for p, i in self._spoken(ids) if i != self.start_id]  # it spells nothing
        positions = [position for position, _ in kept]
        symbols = (self.vocabulary[i - 1] for _, i in kept)
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
    content = token_ids.read_json(path)
    pairs = isinstance(content, dict) and content.get("kind") == BytePairTokenizer.KIND
    return (BytePairTokenizer if pairs else Tokenizer).from_content(content, path)


def _pair(line: Any) -> tuple[str, str]:
    parts = line.split(" ") if isinstance(line, str) else line
    if not isinstance(parts, (list, tuple)) or [type(part) for part in parts] != [str, str]:
        raise DataError(f"the merge {line!r:.60} of the byte pairs is not two symbols")
    return parts[0], parts[1]


# The byte of each of GPT-2's symbols, which is its character or, if that cannot be seen, one from
# 256 on.
_SEEN = {*range(33, 127), *range(161, 173), *range(174, 256)}
_OTHERS = iter(range(256, 512))
_BYTES = {chr(byte if byte in _SEEN else next(_OTHERS)): byte for byte in range(256)}
_KEEP = "surrogateescape"  # bytes that are no UTF-8, there and back
