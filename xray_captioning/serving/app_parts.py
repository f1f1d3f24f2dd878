"""What the app works with: a study's images, what a bundle says of them, its HTML and files."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from markupsafe import Markup
from msgspec import to_builtins
from numpy.typing import NDArray

from xray_captioning.captioner.calibration import is_unfamiliar
from xray_captioning.captioner.caption import Caption, Region
from xray_captioning.captioner.captioner import Captioner, Prediction, predict
from xray_captioning.captioner.evidence import how_often
from xray_captioning.config import ImageConfig
from xray_captioning.data.images import arranged, decode_image, known_views
from xray_captioning.data.outlines import moved, within
from xray_captioning.data.resizing import seen_part
from xray_captioning.data.studies import UNKNOWN, select_images
from xray_captioning.errors import DataError
from xray_captioning.findings import FINDINGS
from xray_captioning.metrics.labeler import find_mentions
from xray_captioning.metrics.mentions import asserted_details
from xray_captioning.phantom.dataset import render
from xray_captioning.phantom.studies import sample_study
from xray_captioning.plots.charts import png
from xray_captioning.plots.images import View, encode, environment
from xray_captioning.plots.panels import card
from xray_captioning.serving import answers
from xray_captioning.serving.settings import LONGEST, Settings

NOTICE = (
    "Not for clinical use. For research and teaching only: the text is fluent whether or not it is true of the images."
)
SHOWN = 560  # pixels of the longer side of an image on the page
SAMPLES = 3
PAST, PAST_BYTES = 8, 256 << 20  # studies of a session that can be chosen again, and their files together
MOST = Settings.megapixels * 1e6  # pixels of an image, as for the API

Array = NDArray[Any]
Rows = list[tuple[str, float | None, str | None]]


class Study(NamedTuple):
    """One or two images of one patient."""

    files: list[bytes]  # whole, frontal first where that is known
    views: list[str]  # of each: frontal, lateral or unknown
    pictures: list[Array]  # for the page: each (height, width), float32 in [0, 1], in proportion
    digest: str  # tells it from other studies
    about: str = ""  # what is known of it; empty for a user's own
    context: Mapping[str, str] = {}  # what a bundle reads beside the images, by kind
    sample: int | None = None  # its number as a sample

    def told(self, context: Mapping[str, str]) -> Self:
        """Return the study with what the user tells of it."""
        return self._replace(context=context, digest=f"{self.digest} {digest(list(map(str.encode, context.values())))}")

    def place(self, view: int) -> int:
        """Return the number, from 0, of the image that a model sees in a view, or that stands for one not there."""
        return dict(enumerate(select_images(range(len(self.files)), self.views, 2))).get(view) or 0

    @property
    def names(self) -> list[str]:
        """What to call each image."""
        return [f"image {i}" if view == UNKNOWN else view for i, view in enumerate(self.views, 1)]


class Result(NamedTuple):
    """What a bundle says of a study, and which of it the user wants to see."""

    bundle: str
    beam_size: int
    caption: Caption
    probabilities: dict[str, float]  # of each finding that the encoder classifies
    limits: str  # what the bundle says of its own limits; may be empty
    threshold: float | None = 0.0  # sentences with a confidence below it are withheld
    image: ImageConfig = ImageConfig()  # how the bundle sees an image
    offset: tuple[float, float] = (0.0, 0.0)  # of what its regions see
    pointing: str = ""  # how often attention points right

    @property
    def calibrated(self) -> bool:
        """Whether sentences have a confidence, or could have it but for strange images."""
        return bool(self.warning) or all(sentence.confidence is not None for sentence in self.caption.sentences)

    @property
    def answer(self) -> answers.Study:
        """What the API answers at this least confidence; None leaves nothing out."""
        said = Prediction(self.caption, self.probabilities or None)
        return answers.describe_study(said, self.threshold, self.beam_size, True)

    @property
    def labels(self) -> dict[str, str]:
        """What the sentences say of each finding that they name, with its side."""
        mentions = [mention for one in self.sentences if not one.hedged for mention in find_mentions(one.text)]
        sides = {name: sorted(said) for name, (said, *_) in asserted_details(mentions).items()}
        found = self.answer.findings["labels"].items()
        return {name: ", ".join((label, *sides.get(name, ()))) for name, label in found}

    @property
    def sentences(self) -> list[answers.Sentence]:
        """The sentences as they are shown, without a confidence exp(mean log-probability); none if unfamiliar."""
        sentences = self.answer.sentences
        for one in sentences:
            likely = math.exp(one.log_probability) if one.confidence is None else one.confidence
            one.confidence = None if self.warning else likely
        return sentences

    @property
    def withheld(self) -> bool:
        """Whether there is a sentence that is not shown."""
        return any(sentence.hedged for sentence in self.sentences)

    @property
    def warning(self) -> str:
        """A warning if the images are unlike the training images; otherwise empty."""
        if not is_unfamiliar(self.caption):
            return ""
        far = f"{self.caption.novelty:.1f} times the distance that one in a hundred familiar studies exceeds on average"
        told = "What it says of them means nothing and has no confidence; it is shown at a least confidence of 0 %."
        return f"Not like the chest X-rays this model was trained on: {far}. {told}"

    @property
    def cautions(self) -> list[str]:
        """The cautions that accompany a caption in files."""
        return list(filter(None, [self.warning, NOTICE, self.limits]))

    @property
    def findings(self) -> Rows:
        """Each finding with the encoder's probability and what the shown text says of it."""
        # What is named comes first, then what the encoder finds likely.
        found, said = self.answer.findings["probabilities"] or {}, self.answer.findings["labels"]
        rows = [(name, found.get(name), said.get(name)) for name in {**found, **said}]
        return sorted(rows, key=lambda row: (row[2] != "present", -(row[1] or 0.0)))


def study_of(files: Sequence[bytes], views: Sequence[str] | None = None) -> Study:
    """Return a study of a user's files, a frontal image first; errors call a file by its place, never its name."""
    if not 1 <= len(files) <= 2:
        raise DataError(f"{len(files)} images given; give one or two images of one study")
    named = [(file, f"image {i}") for i, file in enumerate(files, 1)]
    pictures = {file: decode_image(file, name, SHOWN, "fit", MOST, LONGEST)[..., 0] for file, name in named}
    shown = known_views(files, views)
    arranged(files, 2, shown)  # refuses two images of one view
    order = [i for i in select_images(range(len(files)), shown, 2) if i is not None]
    ordered, seen = [files[i] for i in order], [shown[i] for i in order]
    return Study(ordered, seen, [pictures[file] for file in ordered], " ".join([digest(ordered), *seen]))


def sample(index: int, seed: int) -> Study:
    """Draw the synthetic study of this number and seed."""
    drawn = sample_study(np.random.default_rng([seed, index]))
    images = render(drawn, SHOWN)[: 2 if drawn.lateral else 1]
    files = [encode(image) for image in images]
    truth = "; ".join(finding.detail.replace("/", ", ") for finding in drawn.findings)
    about = f"A drawing, not a patient. Drawn into it: {truth or 'nothing abnormal'}."
    pictures = [np.asarray(image, np.float32) / 255 for image in images]
    return Study(files, ["frontal", "lateral"][: len(files)], pictures, digest(files), about, sample=index)


def digest(files: Sequence[bytes]) -> str:
    """Return what tells files, in their order, from others."""
    return " ".join(hashlib.sha256(file).hexdigest() for file in files)


def read_study(captioner: Captioner, name: str, study: Study, beam_size: int) -> Result:
    """Let a bundle, which the page calls by a name, caption a study."""
    features = captioner.features([study.files], [study.views])
    ((caption, found),) = predict(captioner, features, beam_size, [study.context] if study.context else None)
    notice = captioner.about.get("notice")
    limits = f"This model was {notice}." if notice else ""
    seen = captioner.config.image, captioner.offset, how_often(captioner.about)
    return Result(name, beam_size, caption, found or {}, limits, 0.0, *seen)


def remember(past: dict[int, Study], study: Study) -> None:
    """Keep a study among those of a session, by number, in place of one of the same files; the oldest leave."""
    same = [number for number, one in past.items() if sorted(one.files) == sorted(study.files)]
    past[same[0] if same else max(past, default=0) + 1] = study
    while len(past) > PAST or (len(past) > 1 and sum(len(f) for one in past.values() for f in one.files) > PAST_BYTES):
        del past[min(past)]


def aligned(results: Sequence[Result]) -> list[tuple[list[str], list[list[answers.Sentence]]]]:
    """Return rows of findings and of the sentences about them of each result; the last is of no finding."""
    # Those that either asserts come first; a sentence that is withheld tells none.
    said = [[{m.finding for m in find_mentions(s.text) if not s.hedged} or {""} for s in r.sentences] for r in results]
    labels = [result.answer.findings["labels"] for result in results]
    rows: dict[Any, list[str]] = {}
    for name in [*sorted(FINDINGS, key=lambda name: all(of.get(name, "absent") == "absent" for of in labels)), ""]:
        if any(places := tuple(tuple(i for i, names in enumerate(side) if name in names) for side in said)):
            rows.setdefault(places, []).append(name)
    return [(names, [[r.sentences[i] for i in of] for r, of in zip(results, places)]) for places, names in rows.items()]


def views_of(study: Study, result: Result, words: Sequence[int], regions: Sequence[Region] = ()) -> list[View]:
    """Return a study's views with the mean attention of the words at some places, and the boxes of some regions."""
    # Attention is (words, views, rows, columns); one view more where a model saw an image twice.
    seen, attention, image = [], result.caption.attention, result.image
    for number, (name, picture) in enumerate(zip(study.names, study.pictures)):
        part = seen_part(len(picture), len(picture[0]), image.size, image.resize)
        boxes = [within(part, one.box) for one in regions if study.place(one.view) == number]
        seen.append(View(name, picture, None, moved(part, result.offset), boxes))
    if attention is None or not len(words):
        return seen
    maps = attention[list(words)].mean(axis=0)
    if len(seen) < len(maps):  # a view that the study lacks has no attention
        maps = maps[maps.any(axis=(1, 2))]
    twice = [seen[-1]._replace(name=f"{seen[-1].name} (seen twice)")] * (len(maps) - len(seen))
    return [view._replace(attention=weights) for view, weights in zip([*seen, *twice], maps)]


def html(part: str, *values: Any) -> str:
    """Return a part of the page: a macro of ``app.html`` filled with values, which it escapes."""
    return str(getattr(environment().get_template("serving/app.html").module, part)(*values)).strip()


def title(view: View) -> str:
    """Return a view's name, and the share of the attention on it."""
    return view.name if view.attention is None else f"{view.name}: {100 * view.share:.0f} % of the attention"


def as_text(result: Result) -> str:
    """Return the caption and what to know of it, for a text file."""
    search = "greedy" if result.beam_size == 1 else f"beam size {result.beam_size}"
    return "\n".join([result.answer.text, "", f"Written by {result.bundle}, {search}.", *result.cautions]) + "\n"


def as_json(result: Result) -> str:
    """Return a result for a JSON file, with the names the API uses."""
    shown = result if result.withheld else result._replace(threshold=None)
    least = result.threshold if result.calibrated else None
    values = {"model": result.bundle, "beam_size": result.beam_size, "threshold": least, **to_builtins(shown.answer)}
    values["notice"] = f"{NOTICE} {result.limits}".strip()
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def as_picture(study: Study, result: Result, views: Sequence[View], of: str, boxes: str = "") -> bytes:
    """Return a PNG file of the caption, the attention of some words on the study's images, and what its boxes are."""
    name, titles = f"{result.bundle}, beam size {result.beam_size}", [title(v) for v in views]
    notes = [Markup(boxes).striptags(), study.about, *result.cautions]
    return png(card(name, result.answer.text, notes, views, titles, of))
