"""What the API answers, as ``openapi.jinja`` describes it; the app shows the same."""

from typing import Any

from msgspec import Struct

from xray_captioning.captioner.calibration import hedged, is_unfamiliar, stated, sure_labels
from xray_captioning.captioner.caption import Region
from xray_captioning.captioner.captioner import Captioner, Prediction
from xray_captioning.data.outlines import WHOLE
from xray_captioning.data.resizing import seen_part
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


def notice(captioner: Captioner) -> str:
    """Return the notice of every answer, with what the bundle adds to it."""
    own = captioner.about.get("notice")
    return f"{NOTICE} This model was {own}." if own else NOTICE


def describe_study(
    prediction: Prediction, threshold: float | None = None, alternatives: int = 0, show_unfamiliar: bool = False
) -> Study:
    """Return a prediction as it is sent: without what is unsure or unfamiliar, unless asked for."""
    caption, probabilities = stated(*prediction, show_unfamiliar)
    least, strange = threshold or 0.0, is_unfamiliar(caption)
    sentences = [
        Sentence(text, sentence.log_probability, sentence.confidence, text != sentence.text)
        for sentence, text in zip(caption.sentences, hedged(caption, least))
    ]
    regions = caption.regions and [r for r in caption.regions if not sentences[r.sentence].hedged]
    labels = sure_labels(caption, least).items()
    named = {name: _LABELS[label] for name, label in labels if label is not None}
    text, others = caption.text, [other._asdict() for other in caption.alternatives[:alternatives]]
    if threshold is not None:
        text = " ".join(f"[{one.text}]" if one.hedged else one.text for one in sentences)
        others = []  # nothing is known of their confidence
    findings, novelty = {"probabilities": probabilities, "labels": named}, caption.novelty
    unfamiliar, warning = None if novelty is None else strange, UNFAMILIAR if strange else None
    return Study(text, caption.log_probability, sentences, findings, others, novelty, unfamiliar, warning, regions)


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
    calibrated = captioner.calibration is not None
    told |= {"calibrated": calibrated, "context": list(config.text.context)}
    return told | {"limits": limits, "notice": notice(captioner)}
