"""Images of studies in, captions out."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from msgspec.structs import replace

from xray_captioning.bundles import bundle as bundles
from xray_captioning.bundles.bundle import FEATURES, find_bundle, read_bundle
from xray_captioning.captioner import calibration as applied
from xray_captioning.captioner.caption import Alternative, Caption, Sentence, spelled_sentences, word_means, words_of
from xray_captioning.captioner.compiled_search import BATCH_SIZES, CompiledSearch, Draw, Size
from xray_captioning.captioner.evidence import grounded, offset_of
from xray_captioning.captioner.graphs import BATCH, GraphModel
from xray_captioning.captioner.studies import Studies, Study, Told, Views, arranged_studies, with_context
from xray_captioning.config import Config
from xray_captioning.data.encoding import encode_studies, finding_probabilities
from xray_captioning.data.features import Features, one_ahead
from xray_captioning.data.images import Image
from xray_captioning.data.provenance import TrainedOn
from xray_captioning.data.splits import Split
from xray_captioning.errors import ConfigError, DataError
from xray_captioning.hub import repositories
from xray_captioning.search import Rules, SearchResult
from xray_captioning.text.cleaning import prettify
from xray_captioning.text.token_ids import TokenIds
from xray_captioning.text.tokenizer import load_tokenizer


class Captioner:
    """Encoder, decoder, tokenizer and their preprocessing; :meth:`load` makes one of a bundle.

    Parameters
    ----------
    config : Config
        How images and texts are prepared, and how captions are searched for.
    encoder : Encoder
        Or `GivenFeatures`, of a captioner that is given features only; or a `GraphEncoder`.
    model : CaptionModel
        Head and decoder, of the encoder's regions and channels and the tokenizer's size; or the
        `GraphModel` of an exported folder (:func:`xray_captioning.runtime.load`).
    tokenizer : Tokenizer or BytePairTokenizer
    about : dict, optional
        JSON values that are kept in the bundle: metrics, data, training.
    trained_on : TrainedOn, optional
        The studies it was trained on; a bundle keeps this, and evaluation refuses these studies.
        When absent those of `model`. What `encoder` was trained on is added.
    calibration : Calibration, optional
        How its probabilities become confidences.
    """

    def __init__(
        self,
        config: Config,
        encoder: Any,
        model: Any,
        tokenizer: TokenIds,
        about: dict[str, Any] | None = None,
        trained_on: TrainedOn | None = None,
        calibration: applied.Calibration | None = None,
    ) -> None:
        self.config, self.encoder, self.model = config, encoder, model
        self.tokenizer, self.about, self.calibration = tokenizer, about or {}, calibration
        own, before = trained_on or model.trained_on, encoder.trained_on
        self.trained_on = own.including(before) if own else before
        self._encode, self._batch = encoder.encode, None if self.compiles else BATCH
        if self.compiles:
            from xray_captioning.backend import compiled

            self._encode = compiled(encoder.encode, encoder)
        self._compiled_search = CompiledSearch(model)
        self.identity = bundles.Identity(self.about.get("name", config.name))  # until it is loaded or saved

    @classmethod
    def load(cls, name: str | Path) -> Captioner:
        """Load a bundle from its folder, a shipped one by its name, or one of a hub by its address, which is
        ``hf://USER/NAME[@REVISION]`` or ``kaggle://USER/MODEL/FRAMEWORK/VARIATION[/VERSION]``.

        Raises
        ------
        BundleError, StoreError
            The bundle is missing, incomplete, altered or does not fit its configuration; or its hub refuses or fails.
        """
        from xray_captioning.decoders.model import new_model  # Keras, which exported graphs need not
        from xray_captioning.encoders import Encoder
        from xray_captioning.encoders.encoding import GivenFeatures
        from xray_captioning.encoders.saved import load_weights

        folder = find_bundle(name)
        about = read_bundle(folder, "captioner")
        config = Config.from_dict(about["config"], f"{folder}/captioner.json")
        sizes = about["grid"], about.get("needs", {}).get(FEATURES, {}).get("channels", 0)
        encoder: Any = GivenFeatures(*sizes) if sizes[1] else Encoder.load(folder)
        encoder.trained_on = TrainedOn.load(folder)
        tokenizer = load_tokenizer(folder / "tokenizer.json")
        model = new_model(config, encoder, tokenizer)
        load_weights(model, folder / "decoder.weights.h5")
        loaded = cls(config, encoder, model, tokenizer, about["about"], calibration=applied.load_calibration(folder))
        loaded.identity = bundles.identity(folder, about)
        return loaded

    @cached_property
    def offset(self) -> tuple[float, float]:
        """How far below and right of its place what a region sees is, in shares of the image that is seen."""
        return offset_of(self, self._encode)

    @property
    def compiles(self) -> bool:
        """Whether each new size of a batch is compiled first, which takes seconds."""
        return not isinstance(self.model, GraphModel)

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
        """Write a bundle, whole or not at all, into a folder, in which files of other names are left alone.

        Raises
        ------
        ConfigError
            It is an exported folder's: copy that.
        OSError
            The folder cannot be written.
        """
        if not self.compiles:
            raise ConfigError("exported graphs are not saved as a bundle; copy their folder")
        from xray_captioning.encoders.saved import describe, save_weights

        def write(aside: Path) -> None:
            config = replace(self.config, model=self.model.config)  # with all options
            if config.model.encoder != FEATURES:
                save_weights(self.encoder, aside / "encoder.weights.h5")
            save_weights(self.model, aside / "decoder.weights.h5")
            about = describe("captioner", config, self.encoder, self.about, Path(folder).resolve().name)
            bundles.write_texts(aside, about, self.tokenizer, self.calibration)
            if (record := self.trained_on) is not None:
                record.save(aside)

        bundles.write_bundle(Path(folder), write)
        self.identity = bundles.identity(Path(folder))

    def push_to_hub(self, address: str) -> str:
        """Save a bundle, and send it to a hub, where a new repository is private; return where it is then.

        Parameters
        ----------
        address : str
            ``hf://USER/NAME`` or ``kaggle://USER/MODEL/FRAMEWORK/VARIATION``.

        Returns
        -------
        str
            What :meth:`load` takes, with the new revision where the hub tells it.

        Raises
        ------
        ConfigError, MissingExtraError, StoreError
            This is no such address, the extra ``hub`` is missing, or the hub refuses or cannot be reached.
        """
        with tempfile.TemporaryDirectory() as folder:
            self.save(bundle := Path(folder, Path(self.identity.name).name))
            pushed = repositories.push(bundle, address, str(self.identity))
        self.identity = self.identity._replace(origin=pushed)
        return pushed

    def export(
        self, folder: str | Path, form: str = "onnx", precision: str = "float32", images: Sequence[Image] = ()
    ) -> None:
        """Write the captioner as graphs that run without Keras (:mod:`xray_captioning.runtime`), each compared with
        Keras.

        Parameters
        ----------
        folder : path
            Made if it is not there; files of other names in it are left alone.
        form : {"onnx", "openvino", "litert", "saved_model"}
            The format of the graphs.
        precision : {"float32", "bfloat16", "int8"}
            In which the encoder computes: bfloat16 is OpenVINO's, int8 ONNX's and OpenVINO's.
        images : sequence of images
            Of the training, as :meth:`caption` takes them; int8 is calibrated on them.

        Raises
        ------
        BundleError
            A graph gives other numbers than Keras; nothing is written.
        ConfigError
            This cannot be had, the captioner sees no images, or the backend is not TensorFlow.
        MissingExtraError
            The extra ``export``, ``openvino`` or ``litert`` is not installed.
        """
        from xray_captioning.captioner.export import export_captioner

        export_captioner(self, Path(folder), form, precision, images)

    def caption(
        self, studies: Studies, beam_size: Size = None, sampling: Draw = None, views: Views = None, context: Told = None
    ) -> list[Caption]:
        """Write a caption for each study, in the same order.

        Parameters
        ----------
        studies : sequence of sequences of images
            The images of each study, frontal first; at most as many as the model has views. An image is a path, the
            bytes of a file, an image of Pillow in any mode, or pixels, (height, width, 3) or grey, (height, width)
            or (height, width, 1): whole numbers, read as a file of 8 or 16 bits
            (:func:`xray_captioning.data.levels.white`), or floating-point from 0 to 1, and nothing else. None
            stands where the study lacks a view: ``[None, "lateral.png"]``.
        beam_size : int, optional
            1 is greedy; the bundle's own choice when absent.
        sampling : Sampling, optional
            Draw the words at random instead of searching for likely ones.
        views : sequence of str, or of sequences of str, optional
            ``frontal``, ``lateral`` or ``unknown``, one for each image, as the column ``views`` of a table of studies;
            one sequence of names holds for all (:func:`~xray_captioning.data.studies.select_images`). Where no view
            is given, that which a DICOM file names counts, else the order.
        context : sequence of (dict, str or None), optional
            For each study the texts that the model reads beside its images, as far as there are any, by kind as
            ``config.text.context`` names them: ``{"indication": "Cough."}``. A text alone is of the first kind.

        Raises
        ------
        ImageError
            An image cannot be read.
        DataError
            A study has no image, more than the model has views, or two of one view; or ``views``
            or ``context`` does not fit the studies.
        ConfigError
            ``beam_size`` is no whole number from 1 on, the sampling has an impossible value, or the model reads no
            such ``context``.

        Warns
        -----
        UnfamiliarImageWarning
            Once, with their number, of images unlike those of a calibrated bundle's training: without confidence.
        """
        captions = list(chain.from_iterable(self._writer(beam_size, sampling)(self._encoded(studies, views), context)))
        applied.warn_if_unfamiliar(caption.novelty for caption in captions)
        return captions

    def caption_iter(
        self, studies: Studies, beam_size: Size = None, sampling: Draw = None, views: Views = None, context: Told = None
    ) -> Iterator[Caption]:
        """Yield captions of any number of studies, a batch at a time, as :meth:`caption`; one warning is given."""
        write, warned = self._writer(beam_size, sampling), False
        for captions in write(self._encoded(studies, views), context):
            warned = warned or applied.warn_if_unfamiliar(caption.novelty for caption in captions)
            yield from captions

    def features(self, studies: Studies, views: Views = None, resized: bool = False) -> Features:
        """Encode studies, given as :meth:`caption` takes them, or as pixels `resized` to the model's size already.

        Returns
        -------
        Features
            ``regions`` (studies, views * rows * columns, channels), float32, in the order view, row, column;
            ``mask`` (studies, views * rows * columns), bool, False for those of a view that the study does not have.
        """
        placed, config = list(self._placed(studies, views)), self.config
        if resized:  # "area" leaves pixels of the model's size as they are; others cut them again
            config = replace(config, image=replace(config.image, resize="area"))
        if placed:
            return Features(*encode_studies(self._encode, config, placed, self._batch))
        empty = np.zeros((0, config.image.views * math.prod(self.encoder.grid), self.encoder.channels), "float32")
        return Features(empty, empty.any(axis=-1))

    def findings(self, studies: Studies, views: Views = None) -> list[dict[str, float]]:
        """Return for each study, given as :meth:`caption` takes them, the probability, in [0, 1], of each finding that
        the encoder knows.

        Raises
        ------
        ConfigError
            The encoder classifies no findings.
        ImageError, DataError
            As :meth:`caption`.
        """
        return [row for batch in self._encoded(studies, views) for row in finding_probabilities(self.encoder, *batch)]

    def caption_features(
        self, features: Features, beam_size: Size = None, sampling: Draw = None, context: Told = None
    ) -> list[Caption]:
        """As :meth:`caption`, of studies whose features, arrays such as :meth:`features` returns, are known."""
        captions = self.write_captions(features, beam_size, sampling, context=context)
        applied.warn_if_unfamiliar(caption.novelty for caption in captions)
        return captions

    def write_captions(
        self,
        features: Features,
        beam_size: Size = None,
        sampling: Draw = None,
        total: Size = None,
        context: Told = None,
    ) -> list[Caption]:
        """As :meth:`caption_features`, but who calls warns, and may know the `total` of studies in all calls."""
        if not (isinstance(features, tuple) and len(features) == 2):
            raise DataError(f"expected regions and mask, got {type(features).__name__}; give what `features` returns")
        write, most = self._writer(beam_size, sampling, total), BATCH_SIZES[-1]
        parts = (Features(*(array[i : i + most] for array in features)) for i in range(0, len(features[1]), most))
        return list(chain.from_iterable(write(parts, context)))

    def _placed(self, studies: Studies, views: Views) -> Iterator[Study]:
        if self.config.model.encoder == FEATURES:
            self.encoder.encode(())  # refuses before any image is read
        return arranged_studies(studies, self.config.image.views, views)

    def _encoded(self, studies: Studies, views: Views) -> Iterator[Features]:
        placed = self._placed(studies, views)

        def following() -> Features | None:
            batch = list(islice(placed, BATCH_SIZES[-1]))
            return Features(*encode_studies(self._encode, self.config, batch, self._batch)) if batch else None

        return one_ahead(following)  # a batch is encoded while the one before is captioned

    def _writer(self, beam_size: Size, sampling: Draw, total: Size = None) -> Callable[..., Iterator[list[Caption]]]:
        decoding = self.config.decoding
        beam_size = (decoding.beam_size if sampling is None else 1) if beam_size is None else beam_size
        asked = self.rules(), beam_size, decoding.length_penalty, sampling
        run, search = self._compiled_search.prepare(*asked, total), applied.search_of(decoding, beam_size)

        def write(batches: Iterable[Features], context: Told) -> Iterator[list[Caption]]:
            for features, tokens in with_context(batches, context, self.tokenizer, self.config):
                captions = [self._caption(SearchResult(*rows)) for rows in zip(*run(features, tokens))]
                captions = grounded(self, features, captions, tokens)
                if self.calibration is not None:
                    pooled = applied.pooled_views(*features, self.config.image.views)
                    captions = self.calibration.calibrated(captions, *pooled, search, sampling is not None)
                yield captions

        return write

    def rules(self) -> Rules:
        """Return the special tokens and rules of this model's captions."""
        tokenizer, text = self.tokenizer, self.config.text
        banned = (0, tokenizer.start_id, tokenizer.unknown_id) if text.prettify else ()
        ends = tokenizer.start_id, tokenizer.end_id
        return Rules(*ends, text.maximum_length - 1, banned, self.config.decoding.no_repeat_ngram)

    def _caption(self, found: SearchResult) -> Caption:
        rows = [words_of(tokens, self.tokenizer) for tokens in found.tokens]
        texts = [" ".join(word for word, _ in row) for row in rows]
        spelled, maps = rows[0], None
        if found.attention.shape[-1]:
            maps = word_means(found.attention, [tokens for _, tokens in spelled])
            maps = maps.reshape(-1, self.config.image.views, *self.encoder.grid)
        return Caption(
            self._display(texts[0]),
            [word for word, _ in spelled],
            float(found.log_probabilities[0]),
            [Sentence(self._display(t), p) for t, p in spelled_sentences(spelled, found.gains[0])],
            maps,
            [Alternative(self._display(t), float(p)) for t, p in zip(texts, found.log_probabilities) if p > -1e8][1:],
        )

    def _display(self, text: str) -> str:
        return prettify(text) if self.config.text.prettify else text


class Prediction(NamedTuple):
    """What the model predicts for one study."""

    caption: Caption
    probabilities: dict[str, float] | None  # of findings, in [0, 1]; None without a classifier


def predict(
    captioner: Captioner, features: Features, beam_size: Size = None, context: Told = None, total: Size = None
) -> list[Prediction]:
    """Return what a captioner says of studies, of so many in all, whose features are known; nothing is warned of."""
    told: dict[str, Any] = {} if context is None else {"context": context}
    told |= {} if total is None else {"total": total}
    captions = captioner.write_captions(features, beam_size, **told)
    found = finding_probabilities(captioner.encoder, *features) if captioner.encoder.findings else repeat(None)
    return list(map(Prediction, captions, found))
