"""Captions as JSON."""

from __future__ import annotations

from typing import Any

from xray_captioning.captioner.calibration import hedged, is_unfamiliar, sure_labels
from xray_captioning.captioner.captioner import Captioner
from xray_captioning.serving.batching import Done
from xray_captioning.serving.engine import Reading
from xray_captioning.serving.settings import Settings
from xray_captioning.serving.uploads import Upload

NOTICE = "For research and teaching. Not a medical device; not for clinical use."
_SAID = {1: "present", 0: "absent", -1: "uncertain"}


def notice(captioner: Captioner) -> str:
    """Return what every answer says of its use, with what the bundle adds."""
    own = captioner.about.get("notice")
    return f"{NOTICE} This model was {own}." if own else NOTICE


def describe_study(reading: Reading, upload: Upload) -> dict[str, Any]:
    """Return what is said of one study.

    Parameters
    ----------
    reading : Reading
    upload : Upload
        Says how many alternatives are wanted, and from which confidence on a sentence is shown.
    """
    caption = reading.caption
    others = caption.alternatives[: upload.alternatives]
    if upload.threshold is not None:
        others = []  # nothing is known of their confidence
    said_of = list(zip(caption.sentences, hedged(caption, upload.threshold or 0.0)))
    labels = sure_labels(caption, upload.threshold or 0.0)
    marked = [said if said == sentence.text else f"[{said}]" for sentence, said in said_of]
    return {
        "text": caption.text if upload.threshold is None else " ".join(marked),
        "log_probability": caption.log_probability,
        "sentences": [
            {
                "text": said,
                "log_probability": sentence.log_probability,
                "confidence": sentence.confidence,
                "hedged": said != sentence.text,
            }
            for sentence, said in said_of
        ],
        "findings": {
            "probabilities": reading.probabilities,
            "labels": {name: _SAID[label] for name, label in labels.items() if label in _SAID},
        },
        "alternatives": [
            {"text": other.text, "log_probability": other.log_probability} for other in others
        ],
        "novelty": caption.novelty,
        "unfamiliar": None if caption.novelty is None else is_unfamiliar(caption),
    }


def describe_timing(decoding: float, done: list[Done], total: float) -> dict[str, float]:
    """Return where the time went, in seconds."""
    times = {
        "decoding": decoding,
        "waiting": max(one.waited for one in done),
        "model": max(one.took for one in done),
        "total": total,
    }
    return {name: round(seconds, 4) for name, seconds in times.items()}


def describe_model(captioner: Captioner, settings: Settings) -> dict[str, Any]:
    """Return what is served, and within which limits."""
    config = captioner.config
    return {
        "name": config.name,
        "encoder": config.model.encoder,
        "decoder": config.model.decoder,
        "image": {"size": config.image.size, "views": config.image.views},
        "findings": list(captioner.encoder.findings),
        "beam_size": config.decoding.beam_size,
        "calibrated": captioner.calibration is not None,
        "limits": {
            "body_bytes": settings.body_bytes,
            "pixels": settings.megapixels * 1_000_000,
            "studies": settings.studies,
            "beam_size": settings.beam,
            "seconds": settings.seconds,
        },
        "notice": notice(captioner),
    }
