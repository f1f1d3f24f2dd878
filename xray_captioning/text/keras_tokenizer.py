"""What a Keras ``Tokenizer`` holds, of a pickle or of its ``to_json()``, as this package has it."""

import json
import os
from typing import Any, NamedTuple

from xray_captioning.errors import DataError
from xray_captioning.text.token_ids import HEADER

# Words that begin and end a text in published projects; the first pair that a file has is taken.
PAIRS = (
    *(("<cls>", "<end>"), ("<start>", "<end>"), ("startseq", "endseq"), ("<startseq>", "<endseq>")),
    *(("start_seq", "end_seq"), ("<sos>", "<eos>"), ("<bos>", "<eos>"), ("<s>", "</s>")),
    *(("[cls]", "[sep]"), ("[start]", "[end]"), ("[bos]", "[eos]"), ("[sos]", "[eos]")),
)
# The same where Keras' filters took the brackets away. They may be words of the reports, too.
PLAIN_PAIRS = (("bos", "eos"), ("sos", "eos"), ("cls", "sep"), ("start", "end"))
UNKNOWNS = ("<unk>", "<oov>", "[unk]", "[oov]")
PADS = ("<pad>", "[pad]", "pad", "<PAD>", "[PAD]", "")


class _Index(NamedTuple):
    words: list[str]  # in the order of their ids, from 1
    content: dict[str, Any]  # the other attributes
    path: str | os.PathLike[str]


def is_keras(content: object) -> bool:
    """Tell whether this is what a Keras tokenizer holds, or a dictionary of words and ids."""
    return _word_index(_config(content)) is not None


def from_keras(
    content: object, path: str | os.PathLike[str], start: str | None, end: str | None
) -> dict[str, Any]:
    """Return the content of a ``tokenizer.json`` of this package with the same ids.

    Parameters
    ----------
    content : dict or str
        Attributes of a tokenizer, the object or text that its ``to_json()`` makes, or a dictionary
        of words and ids, or of ids and words.
    path : str or os.PathLike
        Of the file, for messages.
    start, end : str, optional
        The words that begin and end a text; by default they are found.

    Raises
    ------
    DataError
        When the ids are not 1, 2, 3, ..., or the words are not found.
    """
    config = _config(content)
    index = _Index(_words_by_id(_word_index(config), config.get("num_words"), path), config, path)
    if config.get("char_level"):
        raise DataError(f"{path}: a tokenizer of characters, not of words; fit one of words")
    first, last = _marks(index, start, end)
    lower = {word.lower(): word for word in reversed(index.words) if isinstance(word, str)}
    unknown = config.get("oov_token") or next((lower[w] for w in UNKNOWNS if w in lower), None)
    return {
        **HEADER,
        "words": index.words,
        "marks": [unknown if unknown in index.words else None, first, last],
        "filters": config.get("filters") or "",
        "lower": bool(config.get("lower")),
    }


def _config(content: Any) -> dict[Any, Any]:
    """Return the attributes; in what `to_json` writes, dictionaries are texts of JSON again."""
    try:
        if isinstance(content, str):
            content = json.loads(content)
        if isinstance(content, dict) and isinstance(content.get("config"), dict):
            content = content["config"]
            texts = {k: v for k, v in content.items() if isinstance(v, str) and v.startswith("{")}
            content = content | {name: json.loads(text) for name, text in texts.items()}
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _word_index(config: dict[Any, Any]) -> object:
    """Return what maps words to ids, or None."""
    if "word_index" in config:
        return config["word_index"]
    if config and all(isinstance(k, str) and type(v) is int for k, v in config.items()):
        return config
    if config and all(type(k) is int and isinstance(v, str) for k, v in config.items()):
        return {word: number for number, word in config.items()}
    return None


def _words_by_id(index: object, limit: object, path: str | os.PathLike[str]) -> list[str]:
    """List a word index in the order of its ids, which must be 1, 2, 3, ...; 0 may be padding."""
    if not isinstance(index, dict) or not all(type(i) is int for i in index.values()):
        raise DataError(f"{path}: its word_index does not map words to whole numbers")
    kept = [(i, word) for word, i in index.items() if not isinstance(limit, int) or i < limit]
    pairs = sorted((pair for pair in kept if pair not in _PADDING), key=lambda pair: pair[0])
    for expected, (i, _) in enumerate(pairs, 1):
        if i != expected:
            raise DataError(f"{path}: its word_index has id {i} where {expected} was expected")
    return [word for _, word in pairs]


_PADDING = [(0, word) for word in PADS]


def _marks(index: _Index, start: str | None, end: str | None) -> tuple[str, str]:
    known = set(index.words)
    if start is not None and end is not None:
        if missing := [word for word in (start, end) if word not in known]:
            raise DataError(f"{index.path}: has no word {missing[0][:40]!r}; name a word it has")
        return start, end
    lower = {str(word).lower(): word for word in reversed(index.words)}
    for first, last in (*PAIRS, *PLAIN_PAIRS):
        if first in lower and last in lower and _ends_every_text(index, first, last):
            return start or lower[first], end or lower[last]
    raise DataError(
        f"{index.path}: has no words that begin and end a text, such as startseq and endseq, "
        "among those it keeps; name them (start and end; --start-word and --end-word)"
    )


def _ends_every_text(index: _Index, first: str, last: str) -> bool:
    """Tell whether plain words stand in every text that was counted, as marks do."""
    texts, counted = index.content.get("document_count"), index.content.get("word_docs")
    if (first, last) in PAIRS or not texts or not isinstance(counted, dict):
        return True
    return counted.get(first, texts) == counted.get(last, texts) == texts
