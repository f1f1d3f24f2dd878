"""What a model wrote for one study."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from msgspec import Struct

from xray_captioning.data.features import Array
from xray_captioning.text.token_ids import TokenIds


class Sentence(NamedTuple):
    """A sentence of a caption."""

    text: str
    log_probability: float  # natural logarithm, mean over its tokens (words, or byte pairs)
    # Probability that it is right, in [0, 1]. None if nothing is known of it: the bundle is not
    # calibrated or not for this search, the words were drawn at random, or the novelty is above 1.
    confidence: float | None = None


class Alternative(NamedTuple):
    """A caption that the search found, but ranked below the best."""

    text: str
    log_probability: float  # of the whole caption, natural logarithm


class Region(Struct, frozen=True):
    """Where the evidence for a finding lies that a caption names."""

    sentence: int  # its place in the caption's sentences
    finding: str
    view: int  # the model's: 0 is the frontal one
    # Left, top, right and bottom, in shares of what the model sees of the image: of all of it unless
    # `image.resize` cuts it.
    box: tuple[float, float, float, float]
    method: str  # "attention", "class activation" or "gradient" (`xray_captioning.captioner.evidence`)
    hits: float  # how often, of measured cases, the strongest point of such maps lies in the finding, in [0, 1]
    chance: float  # how often it would by chance
    words: str  # of the caption, which name it


class Caption(NamedTuple):
    """The text that a model wrote for one study.

    Attributes
    ----------
    text : str
        As people read it, with capitals where the bundle's configuration says so.
    words : list of str
        As the model chose them; joined by spaces, they are what scores are computed on.
    log_probability : float
        Of the whole caption, natural logarithm, end token included.
    sentences : list of Sentence
    attention : array, shape (words, views, rows, columns), float32, or None
        Weight of each region while each word was chosen, a mean over its tokens; they sum to 1 for each word.
    alternatives : list of Alternative
        The other captions of a beam, best first.
    novelty : float or None
        How much the images differ from those of the training, as a multiple of the distance that one in a hundred
        further studies exceeds on average. None where the bundle is not calibrated.
    regions : list of Region, or None
        Where the findings that it names are seen. None unless the bundle measured that these are right, above chance.
    """

    text: str
    words: list[str]
    log_probability: float
    sentences: list[Sentence]
    attention: Array | None
    alternatives: list[Alternative]
    novelty: float | None = None
    regions: list[Region] | None = None


def words_of(tokens: Array, tokenizer: TokenIds) -> list[tuple[str, list[int]]]:
    """Return the words of a caption, and the positions of each one's tokens."""
    ended = np.flatnonzero(tokens == tokenizer.end_id)
    tokens = tokens[: ended[0]] if len(ended) else tokens
    # Padding occurs within a caption only where it is not banned, as in the older project's model.
    tokens = np.where(tokens == 0, tokenizer.unknown_id, tokens)
    words = tokenizer.words_in([tokenizer.start_id, *tokens])
    return [(word, [place - 1 for place in places]) for word, places in words]


def word_means(rows: Array, groups: list[list[int]]) -> Array:
    """Return the mean row of each word's tokens, (words, columns)."""
    if all(len(group) == 1 for group in groups):
        return rows[[group[0] for group in groups]]
    return np.array([rows[group].mean(axis=0) for group in groups], "float32")


def spelled_sentences(spelled: Sequence[tuple[str, list[int]]], gains: Array) -> Iterator[tuple[str, float]]:
    """Yield the text of each sentence and the mean log probability of its tokens."""
    # `spelled` are words and the positions of their tokens, `gains` the tokens' log probabilities.
    words: list[str] = []
    tokens: list[int] = []
    for number, (word, positions) in enumerate(spelled, 1):
        words.append(word)
        tokens += positions
        if word == "." or number == len(spelled):
            if any(map(str.isalnum, "".join(words))):  # a model in its first epochs writes ". . ."
                yield " ".join(words), float(gains[tokens].mean())
            words, tokens = [], []
