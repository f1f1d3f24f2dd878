"""What the API answers, as ``openapi.jinja`` describes it; the app shows the same."""

from typing import Any

from msgspec import Struct

from xray_captioning.captioner.calibration import hedged, is_unfamiliar, stated, sure_labels
from xray_captioning.captioner.caption import Caption, Region
from xray_captioning.captioner.captioner import Captioner, Prediction
from xray_captioning.data.outlines import WHOLE
from xray_captioning.data.resizing import seen_part
from xray_captioning.metrics.mentions import sentence_words, spoken
from xray_captioning.serving.settings import Settings

NOTICE = "For research and teaching. Not a medical device; not for clinical use."
UNFAMILIAR = "The images are not like the chest X-rays this model was trained on; what it says of them means nothing."
_LABELS = {1: "present", 0: "absent", -1: "uncertain"}


class Sentence(Struct):
    """A sentence of a caption; probabilities as `Caption` has them."""

    text: str
    log_probability: float
    confidence: float | None
    hedged: bool


class Study(Struct):
    """What the model says of one study."""

    text: str
    log_probability: float
    sentences: list[Sentence]
    findings: dict[str, Any]  # ``probabilities``, None without a classifier, and ``labels``
    alternatives: list[dict[str, Any]]
    novelty: float | None
    unfamiliar: bool | None
    warning: str | None
    regions: list[Region] | None  # of the sentences that are shown, as `Caption.regions`
    attention: list[dict[str, Any]] | None = None  # of their words, where it was asked for


def notice(captioner: Captioner) -> str:
    """Return the notice of every answer, with what the bundle adds to it."""
    own = captioner.about.get("notice")
    return f"{NOTICE} This model was {own}." if own else NOTICE


def describe_study(
    prediction: Prediction, threshold: float | None = None, others: int = 0, anyway: bool = False, maps: bool = False
) -> Study:
    """Return a prediction as it is sent: without what is unsure, or unfamiliar but for `anyway`."""
    caption, probabilities = stated(*prediction, anyway)
    least, strange = threshold or 0.0, is_unfamiliar(caption)
    shown = zip(caption.sentences, hedged(caption, least))
    sentences = [Sentence(text, own.log_probability, own.confidence, text != own.text) for own, text in shown]
    regions = caption.regions and [r for r in caption.regions if not sentences[r.sentence].hedged]
    named = {name: _LABELS[label] for name, label in sure_labels(caption, least).items() if label is not None}
    text, alternatives = caption.text, [other._asdict() for other in caption.alternatives[:others]]
    if threshold is not None:
        text = " ".join(f"[{one.text}]" if one.hedged else one.text for one in sentences)
        alternatives = []  # nothing is known of their confidence
    findings, novelty = {"probabilities": probabilities, "labels": named}, caption.novelty
    unfamiliar, warning = None if novelty is None else strange, UNFAMILIAR if strange else None
    said = text, caption.log_probability, sentences, findings, alternatives, novelty, unfamiliar, warning, regions
    return Study(*said, _attention(caption, sentences) if maps else None)


def _attention(caption: Caption, sentences: list[Sentence]) -> list[dict[str, Any]] | None:
    """Return the words of shown sentences, each with its map (views, rows, columns), rounded to millionths."""
    if (maps := caption.attention) is None:
        return None
    said = [(n, places) for n, places in enumerate(sentence_words(caption.words)) if not sentences[n].hedged]
    words = [(n, place) for n, places in said for place in spoken(caption.words, places)]
    return [{"word": caption.words[i], "sentence": n, "map": maps[i].astype(float).round(6).tolist()} for n, i in words]


def describe_model(captioner: Captioner, settings: Settings) -> dict[str, Any]:
    """Return what is served, and within which limits."""
    config, model = captioner.config, captioner.config.model
    limits = {"body_bytes": settings.body_bytes, "pixels": settings.megapixels * 1_000_000}
    limits |= {"studies": settings.studies, "beam_size": settings.beam, "seconds": settings.seconds}
    whole = seen_part(1, 2, config.image.size, config.image.resize) == WHOLE
    seen = {"size": config.image.size, "views": config.image.views, "whole": whole}
    told: dict[str, Any] = {**captioner.identity._asdict(), "preset": config.name, "image": seen}
    told |= {"encoder": model.encoder, "decoder": model.decoder}
    told |= {"findings": list(captioner.encoder.findings), "beam_size": config.decoding.beam_size}
    told |= {"calibrated": captioner.calibration is not None, "context": list(config.text.context)}
    return told | {"limits": limits, "notice": notice(captioner)}
