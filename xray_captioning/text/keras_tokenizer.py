"""What a Keras ``Tokenizer`` holds, of a pickle or of its ``to_json()``, as this package has it."""

import json
from typing import Any

from xray_captioning.errors import DataError
from xray_captioning.text.token_ids import HEADER, FilePath

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


def from_keras(content: Any, path: FilePath, start: str | None, end: str | None) -> Any:
    """Return the content of a ``tokenizer.json`` of this package with the same ids.

    The file held attributes of a tokenizer, what its ``to_json()`` makes, or a dictionary of words
    and ids. The words that begin and end a text are found where they are not given; ids other than
    1, 2, 3, ... are a DataError. What is nothing of the kind is returned as it is.
    """
    config = _config(content)
    index = _word_index(config)
    if index is None:
        return content
    words = _words_by_id(index, config.get("num_words"), path)
    if config.get("char_level"):
        raise DataError(f"{path}: a tokenizer of characters, not of words; fit one of words")
    first, last = _marks(words, config, path, start, end)
    lower = {word.lower(): word for word in reversed(words) if isinstance(word, str)}
    unknown = config.get("oov_token") or next((lower[w] for w in UNKNOWNS if w in lower), None)
    return {
        **HEADER,
        "words": words,
        "marks": [unknown if unknown in words else None, first, last],
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


def _words_by_id(index: object, limit: object, path: FilePath) -> list[str]:
    """List a word index in the order of its ids, which must be 1, 2, 3, ...; 0 may be padding."""
    if not isinstance(index, dict) or not all(type(i) is int for i in index.values()):
        raise DataError(f"{path}: its word_index does not map words to whole numbers")
    kept = [(i, word) for word, i in index.items() if not isinstance(limit, int) or i < limit]
    padding = [(0, word) for word in PADS]
    pairs = sorted((pair for pair in kept if pair not in padding), key=lambda pair: pair[0])
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
    for first, last in (*PAIRS, *PLAIN_PAIRS):
        if first in lower and last in lower and _ends_every_text(config, first, last):
            return start or lower[first], end or lower[last]
    raise DataError(
        f"{path}: has no words that begin and end a text, such as startseq and endseq, "
        "among those it keeps; name them (start and end; --start-word and --end-word)"
    )


def _ends_every_text(config: dict[str, Any], first: str, last: str) -> bool:
    """Tell whether plain words stand in every text that was counted, as marks do."""
    texts, counted = config.get("document_count"), config.get("word_docs")
    if (first, last) in PAIRS or not texts or not isinstance(counted, dict):
        return True
    return counted.get(first, texts) == counted.get(last, texts) == texts
