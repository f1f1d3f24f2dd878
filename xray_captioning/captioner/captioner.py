"""Images of studies in, captions out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from xray_captioning.backend import compiled
from xray_captioning.bundles.bundle import FEATURES, find_bundle, read_bundle, write_bundle
from xray_captioning.bundles.card import model_card
from xray_captioning.captioner import calibration as applied
from xray_captioning.captioner.base import BaseCaptioner
from xray_captioning.captioner.compiled_search import CompiledSearch
from xray_captioning.captioner.studies import Study, Views
from xray_captioning.config import Config
from xray_captioning.data.provenance import TrainedOn
from xray_captioning.data.splits import Split
from xray_captioning.decoders import CaptionModel
from xray_captioning.encoders import Encoder
from xray_captioning.encoders.given import GivenFeatures
from xray_captioning.encoders.saved import describe, load_weights
from xray_captioning.text.byte_pairs import load_tokenizer
from xray_captioning.text.token_ids import TokenIds


class Captioner(BaseCaptioner):
    """Encoder, decoder, tokenizer and their preprocessing; :meth:`load` makes one of a bundle.

    Parameters
    ----------
    config : Config
        How images and texts are prepared, and how captions are searched for.
    encoder : Encoder
        Or `GivenFeatures`, of a captioner that is given features only.
    model : CaptionModel
        Head and decoder, of the encoder's regions and channels and the tokenizer's size.
    tokenizer : Tokenizer or BytePairTokenizer
    about : dict, optional
        JSON values that are kept in the bundle: metrics, data, training.
    trained_on : TrainedOn, optional
        The studies it was trained on; a bundle keeps this, and evaluation refuses these studies.
        When absent those of `model`. What `encoder` was trained on is added.
    calibration : Calibration, optional
        How its probabilities become confidences.
    """

    compiles = True

    def __init__(
        self,
        config: Config,
        encoder: Encoder,
        model: CaptionModel,
        tokenizer: TokenIds,
        about: dict[str, Any] | None = None,
        trained_on: TrainedOn | None = None,
        calibration: applied.Calibration | None = None,
    ) -> None:
        self.config, self.encoder, self.model = config, encoder, model
        self.tokenizer, self.about, self.calibration = tokenizer, about or {}, calibration
        own, before = trained_on or model.trained_on, encoder.trained_on
        self.trained_on = own.including(before) if own else before
        self._encode = compiled(encoder.encode, encoder)
        self._search = CompiledSearch(model, partial(compiled, model=model, fused=True))

    @classmethod
    def load(cls, name: str | Path) -> Captioner:
        """Load a bundle from its folder, or a shipped one by its name.

        Parameters
        ----------
        name : path
            The folder of a bundle that holds a captioner, or ``"phantom_attention"``.

        Raises
        ------
        BundleError
            The bundle is missing, incomplete, altered or does not fit its own configuration.
        """
        folder = find_bundle(name)
        about = read_bundle(folder, "captioner")
        config = Config.from_dict(about["config"], f"{folder}/captioner.json")
        sizes = about["grid"], about.get("needs", {}).get(FEATURES, {}).get("channels", 0)
        encoder: Any = GivenFeatures(*sizes) if sizes[1] else Encoder.load(folder)
        encoder.trained_on = TrainedOn.load(folder)
        tokenizer = load_tokenizer(folder / "tokenizer.json")
        model = new_model(config, encoder, tokenizer)
        load_weights(model, folder / "decoder.weights.h5")
        calibration = applied.load_calibration(folder)
        return cls(config, encoder, model, tokenizer, about["about"], calibration=calibration)

    @property
    def trained_on(self) -> TrainedOn | None:
        """The studies it was trained on, where they are known."""
        return self.model.trained_on

    @trained_on.setter
    def trained_on(self, record: TrainedOn | None) -> None:
        self.model.trained_on = record

    @property
    def split(self) -> Split | None:
        """The split it was trained with, where that is known."""
        return self.trained_on.split if self.trained_on else None

    def save(self, folder: str | Path) -> None:
        """Write a bundle, whole or not at all.

        Parameters
        ----------
        folder : path
            Made if it is not there; files of other names in it are left alone.

        Raises
        ------
        OSError
            The folder cannot be written.
        """

        def write(aside: Path) -> None:
            config = replace(self.config, model=self.model.config)  # with all options
            values = describe("captioner", config, self.encoder, self.about)
            (aside / "captioner.json").write_text(json.dumps(values, indent=2) + "\n", "utf-8")
            self.tokenizer.to_json(aside / "tokenizer.json")
            if config.model.encoder != FEATURES:
                self.encoder.save_weights(aside / "encoder.weights.h5")
            self.model.save_weights(aside / "decoder.weights.h5")
            card = model_card(values, self.calibration.about if self.calibration else None)
            (aside / "README.md").write_text(card, "utf-8")
            if self.trained_on is not None:
                self.trained_on.save(aside)
            if self.calibration is not None:
                self.calibration.save(aside)

        write_bundle(Path(folder), write)

    def export(self, folder: str | Path, form: str = "onnx") -> None:
        """Write the captioner as graphs that run without Keras (:mod:`xray_captioning.runtime`).

        Every graph is compared with Keras before the folder is whole.

        Parameters
        ----------
        folder : path
            Made if it is not there; files of other names in it are left alone.
        form : {"onnx", "openvino"}
            The format of the graphs.

        Raises
        ------
        BundleError
            A graph gives other numbers than Keras; nothing is written.
        ConfigError
            There is no such format, the captioner sees no images, or the backend is not TensorFlow.
        MissingExtraError
            The extra ``export`` or ``openvino`` is not installed.
        """
        from xray_captioning.captioner.export import export_captioner

        export_captioner(self, Path(folder), form)

    def _placed(self, studies: Iterable[Study], views: Views | None) -> Iterator[Study]:
        if isinstance(self.encoder, GivenFeatures):
            self.encoder.encode(())  # refuses before any image is read
        return super()._placed(studies, views)


def new_model(config: Config, encoder: Encoder, tokenizer: TokenIds, dtype: str = "float32") -> CaptionModel:
    """Return an untrained head and decoder that fit an encoder and a vocabulary."""
    sizes = tokenizer.vocabulary_size, (config.image.views, *encoder.grid), encoder.channels
    return CaptionModel(config.model, *sizes, config.text.maximum_length, dtype=dtype)
