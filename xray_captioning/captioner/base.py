"""What every captioner does, whatever runs its networks: images of studies in, captions out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice, repeat
from typing import Any, NamedTuple

import numpy as np

from xray_captioning.captioner import calibration as applied
from xray_captioning.captioner.caption import Alternative, Caption, Sentence, spelled_sentences, word_means
from xray_captioning.captioner.compiled_search import BATCH_SIZES, CompiledSearch
from xray_captioning.captioner.studies import Study, Views, arranged_studies
from xray_captioning.config import Config
from xray_captioning.data.encoding import encode_studies, finding_probabilities
from xray_captioning.data.features import Array, Features
from xray_captioning.search import Rules, Sampling, SearchResult
from xray_captioning.text.cleaning import prettify
from xray_captioning.text.token_ids import TokenIds


class BaseCaptioner:
    """Writes captions with an encoder and a decoder that Keras runs, or another runtime.

    `encoder` has ``findings``, ``grid`` and ``channels``, and the function ``probabilities``, as
    :class:`~xray_captioning.encoders.Encoder`; `encode` turns images (batch, height, width, 3) into
    maps (batch, rows, columns, channels); `search` runs the decoder's steps.
    """

    config: Config
    encoder: Any
    tokenizer: TokenIds
    about: dict[str, Any]
    calibration: applied.Calibration | None
    compiles = False  # for every new size of a batch, which takes seconds
    _encode: Callable[..., Any]
    _search: CompiledSearch

    def caption(
        self,
        studies: Sequence[Study],
        beam_size: int | None = None,
        sampling: Sampling | None = None,
        views: Views | None = None,
    ) -> list[Caption]:
        """Write a caption for each study.

        Parameters
        ----------
        studies : sequence of sequences of images
            The images of each study, frontal first; at most as many as the model has views. An
            image is a path, the bytes of a file, an image of Pillow in any mode, or pixels,
            (height, width, 3) or grey, (height, width) or (height, width, 1): whole numbers, read
            as a file of 8 or 16 bits (:func:`xray_captioning.data.levels.white`), or
            floating-point from 0 to 1, and nothing else.
            None stands where the study lacks a view: ``[None, "lateral.png"]``.
        beam_size : int, optional
            1 is greedy; the bundle's own choice when absent.
        sampling : Sampling, optional
            Draw the words at random instead of searching for likely ones.
        views : sequence of str, or of sequences of str, optional
            ``frontal``, ``lateral`` or ``unknown``, one for each image, as the column ``views``
            of a table of studies; one sequence of names holds for all studies. Each view has its
            own place in the model (:func:`~xray_captioning.data.studies.select_images`). Where no
            view is given, that which a DICOM file names counts, else the order.

        Returns
        -------
        list of Caption
            One for each study, in the same order. Where a calibrated bundle finds images unlike
            those of its training, sentences have no confidence, and one
            :class:`~xray_captioning.captioner.calibration.UnfamiliarImageWarning` says how many.

        Raises
        ------
        ImageError
            An image cannot be read.
        DataError
            A study has no image, more than the model has views, or two of one view; or ``views``
            does not fit the studies.
        ConfigError
            ``beam_size`` is no whole number from 1 on, or the sampling has an impossible value.
        """
        write = self._writer(beam_size, sampling)
        captions = [c for batch in self._encoded(studies, views) for c in write(batch)]
        applied.warn_if_unfamiliar(caption.novelty for caption in captions)
        return captions

    def caption_iter(
        self,
        studies: Iterable[Study],
        beam_size: int | None = None,
        sampling: Sampling | None = None,
        views: Views | None = None,
    ) -> Iterator[Caption]:
        """Yield captions one by one, for any number of studies; otherwise as :meth:`caption`.

        Studies are read a batch at a time, so memory does not grow with their number. Only the
        first batch with unfamiliar images is warned of.
        """
        write, warned = self._writer(beam_size, sampling), False
        for batch in self._encoded(studies, views):
            captions = write(batch)
            warned = warned or applied.warn_if_unfamiliar(caption.novelty for caption in captions)
            yield from captions

    def features(self, studies: Sequence[Study], views: Views | None = None) -> Features:
        """Encode studies, given as :meth:`caption` takes them.

        Returns
        -------
        Features
            ``regions`` (studies, views * rows * columns, channels), float32, in the order view,
            row, column; ``mask`` (studies, views * rows * columns), bool, False for the regions
            of a view that the study does not have.

        Raises
        ------
        ImageError, DataError
            As :meth:`caption`.
        """
        placed = list(self._placed(studies, views))
        if placed:
            return Features(*encode_studies(self._encode, self.config, placed))
        regions = self.config.image.views * math.prod(self.encoder.grid)
        empty = np.zeros((0, regions, self.encoder.channels), "float32")
        return Features(empty, np.zeros((0, regions), bool))

    def findings(self, studies: Sequence[Study], views: Views | None = None) -> list[dict[str, float]]:
        """Classify findings in the images of studies, given as :meth:`caption` takes them.

        Returns
        -------
        list of dict
            For each study, the probability, in [0, 1], of each finding that the encoder knows.

        Raises
        ------
        ConfigError
            The encoder classifies no findings.
        ImageError, DataError
            As :meth:`caption`.
        """
        batches = self._encoded(studies, views)
        return [row for batch in batches for row in finding_probabilities(self.encoder, *batch)]

    def caption_features(
        self, features: Features, beam_size: int | None = None, sampling: Sampling | None = None
    ) -> list[Caption]:
        """Write a caption for each study whose features are known; otherwise as :meth:`caption`.

        Parameters
        ----------
        features : Features
            NumPy arrays, such as :meth:`features` returns.
        beam_size, sampling
            As :meth:`caption` takes them.
        """
        captions = self.write_captions(features, beam_size, sampling)
        applied.warn_if_unfamiliar(caption.novelty for caption in captions)
        return captions

    def write_captions(
        self, features: Features, beam_size: int | None = None, sampling: Sampling | None = None
    ) -> list[Caption]:
        """As :meth:`caption_features`, but it is the caller who warns of unfamiliar images."""
        write, most = self._writer(beam_size, sampling), BATCH_SIZES[-1]
        starts = range(0, len(features.mask), most)
        parts = (Features(*(array[i : i + most] for array in features)) for i in starts)
        return [caption for part in parts for caption in write(part)]

    def _placed(self, studies: Iterable[Study], views: Views | None) -> Iterator[Study]:
        return arranged_studies(studies, self.config.image.views, views)

    def _encoded(self, studies: Iterable[Study], views: Views | None) -> Iterator[Features]:
        placed = self._placed(studies, views)
        while batch := list(islice(placed, BATCH_SIZES[-1])):
            yield Features(*encode_studies(self._encode, self.config, batch))

    def _writer(self, beam_size: int | None, sampling: Sampling | None) -> Callable[[Features], list[Caption]]:
        decoding = self.config.decoding
        if beam_size is None:
            beam_size = decoding.beam_size if sampling is None else 1
        asked = self.rules(), beam_size, decoding.length_penalty, sampling
        run, search = self._search.prepare(*asked), applied.search_of(decoding, beam_size)

        def write(features: Features) -> list[Caption]:
            captions = [self._caption(SearchResult(*rows)) for rows in zip(*run(features))]
            if self.calibration is None:
                return captions
            pooled = applied.pooled_views(*features, self.config.image.views)
            return self.calibration.calibrated(captions, *pooled, search, sampling is not None)

        return write

    def rules(self) -> Rules:
        """Return the special tokens and rules of this model's captions."""
        tokenizer, text = self.tokenizer, self.config.text
        return Rules(
            tokenizer.start_id,
            tokenizer.end_id,
            text.maximum_length - 1,
            banned=(0, tokenizer.start_id, tokenizer.unknown_id) if text.prettify else (),
            no_repeat_ngram=self.config.decoding.no_repeat_ngram,
        )

    def _caption(self, found: SearchResult) -> Caption:
        rows = [self._words(tokens) for tokens in found.tokens]
        texts = [" ".join(word for word, _ in row) for row in rows]
        spelled, maps = rows[0], None
        if found.attention.shape[-1]:
            maps = word_means(found.attention, [tokens for _, tokens in spelled])
            maps = maps.reshape(-1, self.config.image.views, *self.encoder.grid)
        others = zip(texts[1:], found.log_probabilities[1:])
        return Caption(
            self._display(texts[0]),
            [word for word, _ in spelled],
            float(found.log_probabilities[0]),
            [Sentence(self._display(t), p) for t, p in spelled_sentences(spelled, found.gains[0])],
            maps,
            [Alternative(self._display(t), float(p)) for t, p in others if p > -1e8],
        )

    def _words(self, tokens: Array) -> list[tuple[str, list[int]]]:
        # Words and the positions of their tokens. Padding occurs within a caption only where it
        # is not banned, as in the older project's model.
        ended = np.flatnonzero(tokens == self.tokenizer.end_id)
        tokens = tokens[: ended[0]] if len(ended) else tokens
        tokens = np.where(tokens == 0, self.tokenizer.unknown_id, tokens)
        words = self.tokenizer.words_in([self.tokenizer.start_id, *tokens])
        return [(word, [place - 1 for place in places]) for word, places in words]

    def _display(self, text: str) -> str:
        return prettify(text) if self.config.text.prettify else text


class Prediction(NamedTuple):
    """What the model predicts for one study."""

    caption: Caption
    probabilities: dict[str, float] | None  # of findings, in [0, 1]; None without a classifier


def predict(captioner: BaseCaptioner, features: Features, beam_size: int | None = None) -> list[Prediction]:
    """Return what a captioner says of studies whose features are known; nothing is warned of."""
    captions = captioner.write_captions(features, beam_size)
    classifies = bool(captioner.encoder.findings)
    found = finding_probabilities(captioner.encoder, *features) if classifies else repeat(None)
    return list(map(Prediction, captions, found))
