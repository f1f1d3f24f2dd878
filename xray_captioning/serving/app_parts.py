"""What the app works with: a study's images, what a bundle says of them, and files of that."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xray_captioning.captioner.calibration import hedged, is_unfamiliar, sure_labels
from xray_captioning.data.containers import JPEG, check_jpeg, check_png
from xray_captioning.data.dicom.pixels import decode_dicom, is_dicom, view_of
from xray_captioning.data.images import decode_image, frontal_first, opencv
from xray_captioning.errors import DataError
from xray_captioning.phantom.dataset import render, sample_study
from xray_captioning.serving.settings import LONGEST, Settings

if TYPE_CHECKING:
    from xray_captioning.captioner.captioner import Caption, Captioner, Sentence

NOTICE = (
    "Not for clinical use. For research and teaching only: the text is fluent whether or not it is "
    "true of the images."
)
SHOWN = 560  # pixels of the longer side of an image on the page
SAMPLES = 3
MOST = Settings.megapixels * 1e6  # pixels of an image, as for the API

Array = NDArray[Any]
Rows = list[tuple[str, float | None, int | None]]


class Study(NamedTuple):
    """One or two images of one patient.

    Attributes
    ----------
    files : list of bytes
        Whole files, frontal first where that is known.
    views : list of str
        What to call each image.
    pictures : list of arrays, each (height, width), float32 in [0, 1]
        For the page, in the proportions of the image.
    digest : str
        Tells it from other studies.
    about : str
        What is known of it; empty for a user's own.
    """

    files: list[bytes]
    views: list[str]
    pictures: list[Array]
    digest: str
    about: str = ""


class Result(NamedTuple):
    """What a bundle says of a study.

    Attributes
    ----------
    bundle : str
    beam_size : int
    caption : Caption
    probabilities : dict of float
        The encoder's probability of each finding that it classifies.
    trained : str
        What the bundle says of its own limits; may be empty.
    """

    bundle: str
    beam_size: int
    caption: Caption
    probabilities: dict[str, float]
    trained: str

    @property
    def calibrated(self) -> bool:
        """Whether every sentence has a confidence."""
        return all(sentence.confidence is not None for sentence in self.caption.sentences)


def study_of(files: Sequence[bytes]) -> Study:
    """Return a study of a user's files.

    Parameters
    ----------
    files : sequence of bytes
        PNG, JPEG or DICOM. The image a DICOM file calls frontal goes first, a lateral one last.

    Raises
    ------
    DataError
        There are none, or more than two.
    ImageError
        One cannot be read; the message calls it by its place, never by its name.
    """
    if not 1 <= len(files) <= 2:
        raise DataError(f"{len(files)} images given; give one or two images of one study")
    pictures = {file: _picture(file, f"image {i}") for i, file in enumerate(files, 1)}
    ordered = [file for file in frontal_first(files) if isinstance(file, bytes)]
    named = [(view_of(file), f"image {i}") for i, file in enumerate(ordered, 1)]
    views = [number if view == "unknown" else view for view, number in named]
    return Study(ordered, views, [pictures[file] for file in ordered], digest(files))


def sample(index: int, seed: int) -> Study:
    """Draw a synthetic study.

    Parameters
    ----------
    index, seed : int
        Which one.
    """
    drawn = sample_study(np.random.default_rng([seed, index]))
    images = render(drawn, SHOWN)[: 2 if drawn.lateral else 1]
    files = [opencv().imencode(".png", image)[1].tobytes() for image in images]
    truth = "; ".join(finding.detail.replace("/", ", ") for finding in drawn.findings)
    about = f"A drawing, not a patient. Drawn into it: {truth or 'nothing abnormal'}."
    pictures = [np.asarray(image, np.float32) / 255 for image in images]
    return Study(files, ["frontal", "lateral"][: len(files)], pictures, digest(files), about)


def digest(files: Sequence[bytes]) -> str:
    """Return what tells files, in their order, from others."""
    return " ".join(hashlib.sha256(file).hexdigest() for file in files)


def read_study(captioner: Captioner, name: str, study: Study, beam_size: int) -> Result:
    """Let a bundle caption a study.

    Parameters
    ----------
    captioner : Captioner
    name : str
        What to call it.
    study : Study
    beam_size : int

    Raises
    ------
    XrayCaptioningError
        The bundle takes fewer images.
    """
    from xray_captioning.encoders.classification import finding_probabilities

    features = captioner.features([study.files])  # once for both
    (caption,) = captioner.caption_features(features, beam_size)
    encoder = captioner.encoder
    chances = finding_probabilities(encoder, *features)[0] if encoder.findings else {}
    return Result(name, beam_size, caption, chances, str(captioner.about.get("notice", "")))


def strength(sentence: Sentence) -> float:
    """Return how sure a sentence is, in [0, 1].

    Its confidence, or without one the exponential of its mean log-probability, which is how
    likely the model finds each of its tokens and no chance of being right.
    """
    if sentence.confidence is not None:
        return sentence.confidence
    return math.exp(sentence.log_probability)


def sentence_words(words: Sequence[str]) -> list[list[int]]:
    """Return the places of the words of each sentence that says something; a full stop ends it."""
    ends = [i + 1 for i, word in enumerate(words) if word == "."]
    bounds = [0, *ends, *([] if ends and ends[-1] == len(words) else [len(words)])]
    sentences = [list(range(start, stop)) for start, stop in pairwise(bounds)]
    return [places for places in sentences if spoken(words, places)]


def spoken(words: Sequence[str], places: Sequence[int]) -> list[int]:
    """Return those places where a word stands, not punctuation."""
    return [i for i in places if any(map(str.isalnum, words[i]))]


def findings_table(result: Result, threshold: float) -> Rows:
    """Return each finding with the encoder's probability and what the shown text says of it.

    Parameters
    ----------
    result : Result
    threshold : float

    Returns
    -------
    list of tuples
        Name, probability or None, and 1 present, 0 denied, -1 uncertain or None. What is said
        comes first, then what is likely.
    """
    said = sure_labels(result.caption, threshold)
    names = [*result.probabilities, *(name for name in said if name not in result.probabilities)]
    rows = [(name, result.probabilities.get(name), said.get(name)) for name in names]
    known = [row for row in rows if row[1] is not None or row[2] is not None]
    return sorted(known, key=lambda row: (row[2] != 1, -(row[1] or 0.0)))


def shown_text(result: Result, threshold: float) -> str:
    """Return the caption as it is shown: in place of sentences that are withheld it says so."""
    withheld = withheld_sentences(result, threshold)
    texts = enumerate(hedged(result.caption, threshold))
    return " ".join(f"[{text}]" if i in withheld else text for i, text in texts)


def withheld_sentences(result: Result, threshold: float) -> set[int]:
    """Return which sentences are not shown."""
    texts = hedged(result.caption, threshold)
    pairs = zip(result.caption.sentences, texts)
    return {i for i, (sentence, text) in enumerate(pairs) if text != sentence.text}


def as_text(result: Result, threshold: float) -> str:
    """Return the caption and what to know of it, for a text file."""
    lines = [shown_text(result, threshold), "", _source(result), *cautions(result)]
    return "\n".join(lines) + "\n"


def cautions(result: Result) -> list[str]:
    """Return what has to stand beside a caption wherever it goes."""
    return list(filter(None, [unfamiliar(result), NOTICE, trained(result)]))


def unfamiliar(result: Result) -> str:
    """Return the warning of images unlike those the model knows; empty where they are alike."""
    if not is_unfamiliar(result.caption):
        return ""
    return (
        "Not like the chest X-rays this model was trained on: "
        f"{result.caption.novelty:.1f} times as far from them as 99 % of its validation studies. "
        "What it says of them, its confidence included, means nothing; it is shown at a least "
        "confidence of 0 %."
    )


def as_json(result: Result, threshold: float) -> str:
    """Return a result for a JSON file, with the names the API uses."""
    from msgspec import to_builtins

    from xray_captioning.serving.answers import describe_study
    from xray_captioning.serving.engine import Prediction
    from xray_captioning.serving.uploads import Upload

    # Without a limit the API leaves nothing out.
    limit = threshold if withheld_sentences(result, threshold) else None
    values = {
        "model": result.bundle,
        "beam_size": result.beam_size,
        "threshold": threshold if result.calibrated else None,
        **to_builtins(
            describe_study(
                Prediction(result.caption, result.probabilities or None),
                Upload([], result.beam_size, result.beam_size, limit),
            )
        ),
        "notice": f"{NOTICE} {trained(result)}".strip(),
    }
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def _source(result: Result) -> str:
    search = "greedy" if result.beam_size == 1 else f"beam size {result.beam_size}"
    return f"Written by {result.bundle}, {search}."


def trained(result: Result) -> str:
    """Return what the bundle says of its own limits; may be empty."""
    return f"This model was {result.trained}." if result.trained else ""


def _picture(file: bytes, name: str) -> Array:
    square = decode_image(file, name, SHOWN, max_pixels=MOST, max_ratio=LONGEST)[..., 0]
    height, width = _shape(file, name)
    longer = max(height, width) / SHOWN
    size = (max(round(width / longer), 1), max(round(height / longer), 1))
    picture: Array = opencv().resize(square, size, interpolation=opencv().INTER_AREA)
    return picture


def _shape(file: bytes, name: str) -> tuple[int, ...]:
    if is_dicom(file):
        return decode_dicom(file, name, MOST).shape[:2]
    return check_jpeg(file) if file.startswith(JPEG) else check_png(file)
