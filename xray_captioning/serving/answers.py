"""What the API answers: types that are sent as JSON and from which OpenAPI schemas are made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta, Struct

from xray_captioning.captioner.calibration import hedged, is_unfamiliar, stated, sure_labels
from xray_captioning.serving.settings import Settings

if TYPE_CHECKING:  # the app shows its page before it loads Keras
    from xray_captioning.captioner.caption import Caption
    from xray_captioning.captioner.captioner import Captioner

NOTICE = "For research and teaching. Not a medical device; not for clinical use."

UNFAMILIAR = (
    "The images are not like the chest X-rays this model was trained on; what it says of them "
    "means nothing."
)

# openapi.json says what the fields mean.
Count = Annotated[int, Meta(ge=1)]
Positive = Annotated[float, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
LogProbability = Annotated[float, Meta(le=0)]  # natural logarithm
Label = Literal["present", "absent", "uncertain"]
_LABELS: dict[int, Label] = {1: "present", 0: "absent", -1: "uncertain"}


class _Part(Struct, forbid_unknown_fields=True): ...


class Sentence(_Part):
    """A sentence of a caption."""

    text: str
    log_probability: LogProbability
    confidence: Share | None
    hedged: bool


class Findings(_Part):
    """Findings in the images, and in the text."""

    probabilities: dict[str, Share] | None
    labels: dict[str, Label]


class Alternative(_Part):
    """A caption that the search ranked lower."""

    text: str
    log_probability: LogProbability


class Study(_Part):
    """What the model says of one study."""

    text: str
    log_probability: LogProbability
    sentences: list[Sentence]
    findings: Findings
    alternatives: list[Alternative]
    novelty: Positive | None
    unfamiliar: bool | None
    warning: str | None


class Timing(_Part):
    """Seconds: files to pixels, waiting for a batch, in the model, and altogether."""

    decoding: Positive
    waiting: Positive
    model: Positive
    total: Positive


class Answer(Study):
    """What the model says of the studies sent."""

    further: list[Study]
    model: str
    timing: Timing
    notice: str
    request_id: str


class Image(_Part):
    """Pixels a side that the model is given, and images a study may have."""

    size: Count
    views: Count


class Limits(_Part):
    """What a request may hold and how long it may take."""

    body_bytes: Count
    pixels: Count
    studies: Count
    beam_size: Count
    seconds: Count


class Model(_Part):
    """The model that is served, and its limits."""

    name: str
    encoder: str
    decoder: str
    image: Image
    findings: list[str]
    beam_size: Count
    calibrated: bool
    limits: Limits
    notice: str


class Status(_Part):
    """The state of the server."""

    status: Literal["alive", "ready"]


def notice(captioner: Captioner) -> str:
    """Return the notice of every answer, with what the bundle adds to it."""
    own = captioner.about.get("notice")
    return f"{NOTICE} This model was {own}." if own else NOTICE


def describe_study(
    prediction: tuple[Caption, dict[str, float] | None],
    threshold: float | None = None,
    alternatives: int = 0,
    show_unfamiliar: bool = False,
) -> Study:
    """Return a prediction as it is sent: without what is unsure or unfamiliar, unless asked for."""
    caption, probabilities = stated(*prediction, show_unfamiliar)
    least, strange = threshold or 0.0, is_unfamiliar(caption)
    sentences = [
        Sentence(text, sentence.log_probability, sentence.confidence, text != sentence.text)
        for sentence, text in zip(caption.sentences, hedged(caption, least))
    ]
    labels = sure_labels(caption, least)
    named = {name: _LABELS[label] for name, label in labels.items() if label is not None}
    text, others = caption.text, caption.alternatives[:alternatives]
    if threshold is not None:
        text = " ".join(f"[{one.text}]" if one.hedged else one.text for one in sentences)
        others = []  # nothing is known of their confidence
    return Study(
        text=text,
        log_probability=caption.log_probability,
        sentences=sentences,
        findings=Findings(probabilities, named),
        alternatives=[Alternative(other.text, other.log_probability) for other in others],
        novelty=caption.novelty,
        unfamiliar=None if caption.novelty is None else strange,
        warning=UNFAMILIAR if strange else None,
    )


def describe_model(captioner: Captioner, settings: Settings) -> Model:
    """Return what is served, and within which limits."""
    config, pixels = captioner.config, settings.megapixels * 1_000_000
    allowed = settings.body_bytes, pixels, settings.studies, settings.beam, settings.seconds
    return Model(
        name=config.name,
        encoder=config.model.encoder,
        decoder=config.model.decoder,
        image=Image(config.image.size, config.image.views),
        findings=list(captioner.encoder.findings),
        beam_size=config.decoding.beam_size,
        calibrated=captioner.calibration is not None,
        limits=Limits(*allowed),
        notice=notice(captioner),
    )
