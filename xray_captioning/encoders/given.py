"""Features that were computed before: which studies they are of, and what encoder made them."""

from collections.abc import Mapping
from typing import Any

from msgspec.structs import asdict

from xray_captioning.bundles.bundle import FEATURES, find_bundle, read_config
from xray_captioning.config import Config
from xray_captioning.data.feature_files import Made, StudyFeatures
from xray_captioning.data.provenance import TrainedOn
from xray_captioning.encoders.encoder import Encoder
from xray_captioning.encoders.encoding import PIXELS
from xray_captioning.encoders.folders import adopted
from xray_captioning.encoders.saved import is_network, starting_encoder, weights_digest
from xray_captioning.errors import ConfigError, DataError, XrayCaptioningError


class GivenFeatures:
    """In an encoder's place where captions are written from features: it has their sizes only.
    `grid` is rows and columns of a view's regions, of so many `channels`.
    """

    findings: tuple[str, ...] = ()
    weights: tuple[Any, ...] = ()

    def __init__(self, grid: Any, channels: int, trained_on: TrainedOn | None = None) -> None:
        self.grid, self.channels, self.trained_on = tuple(grid), channels, trained_on

    def encode(self, images: Any, training: bool | None = None) -> Any:
        """Refuse images."""
        raise ConfigError(
            "this captioner was trained on features and sees no images; give it features, or train "
            "it with the encoder that made them (--encoder)"
        )


def features_encoder(
    config: Config, given: StudyFeatures, encoder: Any = None, weights: str | None = None
) -> tuple[Config, Any]:
    """Return the configuration and the encoder of a run on features.
    That is the encoder they name, or that is asked for; if none is, or the one they name cannot be
    had, the captioner will see no images.
    """
    (views, rows, columns), wanted = given.grid, config.model.pool
    for name in ("text.view_prefix", "training.encoder_learning_rate"):
        if config.flat()[name]:
            raise ConfigError(f"{name} needs images; leave it at its default beside features")
    pool = wanted if min(rows, columns) >= wanted else 1
    sizes = {"image.views": views, "image.repeat_single_view": False, "model.pool": pool}
    config = config.replace(sizes)
    try:
        config, found = _encoder(config, given.about, encoder, weights)
    except XrayCaptioningError:
        if encoder is not None or weights is not None:
            raise
        config = config.replace({"model.encoder": FEATURES})
        found = GivenFeatures((rows // pool, columns // pool), given.channels, _record(given))
    check_fits(given, config, found)
    return config, found


def _record(given: StudyFeatures) -> TrainedOn | None:
    try:
        return TrainedOn.from_dict(given.about.trained_on) if given.about.trained_on else None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{given.source}: its `about` is damaged; write it again") from error


def _encoder(config: Config, made: Made, encoder: Any, weights: str | None) -> tuple[Config, Any]:
    """Return the encoder that was asked for or that features name, and how it sees images."""
    if encoder is None and weights is None:
        if not made.weights_sha256 or made.weights == "random":
            raise ConfigError("it is not known which weights made the features")
        weights = made.weights
        if weights is not None and not is_network(weights):
            encoder, weights = weights, None
    changes = {f"image.{name}": made.image[name] for name in PIXELS if name in made.image}
    changes |= {"model.encoder": made.encoder} if made.encoder else {}
    if isinstance(encoder, Encoder):
        changes |= {"model.encoder": encoder.name_of_backbone, "image.size": encoder.size}
    elif encoder is not None:
        saved = read_config(find_bundle(encoder), "encoder")
        changes |= {f"image.{name}": getattr(saved.image, name) for name in PIXELS}
        changes |= {"model.encoder": saved.model.encoder, "model.network": saved.model.network}
    config = config.replace(changes)
    config = adopted(config, weights, changes) if weights is not None else config
    found = starting_encoder(config, encoder, weights)
    if made.weights_sha256 not in ("", weights_digest(found.backbone)):
        raise ConfigError("the features were made with other weights than this encoder's")
    return config, found


def check_fits(given: StudyFeatures, config: Config, encoder: Any, about: Mapping[str, Any] = {}) -> None:
    """Refuse features of other sizes than an encoder's, or of another one than a bundle names.
    `about` is what the bundle keeps.
    """
    (views, *sides), pool = given.grid, config.model.pool
    has = (views, *(side // pool for side in sides), given.channels)
    needs = (config.image.views, *encoder.grid, encoder.channels)
    if has != needs:
        shapes = [" x ".join(map(str, shape)) for shape in (has, needs)]
        raise ConfigError(
            f"{given.source}: a study is {shapes[0]} (views, rows, columns, channels), but "
            f"{shapes[1]} are needed; give features of the same encoder"
        )
    known = about.get(FEATURES, {}).get("weights_sha256"), given.about.weights_sha256
    if all(known) and known[0] != known[1]:
        raise ConfigError(
            f"{given.source}: is of another encoder, or other weights, than the features that this "
            "captioner was trained on; give features of the same"
        )


def made_by(given: StudyFeatures) -> dict[str, Any]:
    """Return what a bundle keeps of what made its features."""
    known = asdict(given.about)
    return {name: known[name] for name in ("encoder", "layer", "weights_sha256", "image")}
