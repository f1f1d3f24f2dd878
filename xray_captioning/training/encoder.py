"""Teach an encoder to classify findings: labels first, captions on frozen features after.

A decoder trained jointly with an encoder from scratch collapses to the commonest sentences; one
trained on the features of a finding classifier does not (Rajpurkar et al., arXiv:1711.05225, is
the encoder of the published captioning models).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xray_captioning.backend import ops, seeded
from xray_captioning.config import Config
from xray_captioning.data.datasets import BatchDataset, finding_batch, pixel_inputs
from xray_captioning.data.features import Array
from xray_captioning.data.provenance import choose_split, open_studies, record_training
from xray_captioning.data.splits import Split, data_digest, group_ids
from xray_captioning.data.studies import with_images
from xray_captioning.data.targets import study_images
from xray_captioning.encoders import Encoder, FindingModel
from xray_captioning.encoders.caches import cached_pixels
from xray_captioning.encoders.saved import (
    is_network,
    new_encoder,
    save_encoder,
    trained_before,
    weights_of,
)
from xray_captioning.errors import DataError
from xray_captioning.files import atomic_write
from xray_captioning.metrics.classification import classification_table, frequent_findings
from xray_captioning.training.captions import compile_model, fit
from xray_captioning.training.labels import Labels, finding_labels, intercept_shift, prevalence
from xray_captioning.training.losses import MaskedBinaryCrossentropy
from xray_captioning.training.run_folder import claim_run, run_folder

if TYPE_CHECKING:
    import pandas as pd


def train_encoder(
    studies: pd.DataFrame | str | Path,
    config: Config,
    out: str | Path,
    weights: str | None = None,
    *,
    split: Split | str | Path | None = None,
    cache: str | Path | None = None,
    resume: bool = False,
    about: dict[str, Any] | None = None,
) -> tuple[Encoder, list[dict[str, Any]]]:
    """Train an encoder to classify findings, and save its best epoch as a bundle.

    Parameters
    ----------
    studies : pandas.DataFrame or path
        As :func:`xray_captioning.read_studies` returns it, or what it reads.
    config : Config
        A recipe, such as :func:`xray_captioning.load_preset` returns.
    out : path
        The run folder.
    weights : str, optional
        What the network starts from: ``random``, ``imagenet`` (its published weights, which are
        downloaded), a bundle whose encoder is the same network, or a Keras ``.h5`` file of that
        network without its top. When absent the published weights, if there are any.
    split : Split or path, optional
        A split, or its file; made from ``config.fractions`` when absent.
    cache : path, optional
        Where resized pixels are kept between runs; the usual folder when absent.
    resume : bool
        Go on with the run in ``out``, if there is one.
    about : dict, optional
        More JSON values for the bundle, beside what is known of the path of the studies.

    Returns
    -------
    encoder : Encoder
    rows : list of dict
        What :func:`xray_captioning.metrics.classification.classification_table` measures of each
        finding on the test part, by patient.

    Raises
    ------
    ConfigError
        ``out`` holds a run already, or, with ``resume``, another one; the bundle in ``weights``
        was trained on test studies; or the published weights cannot be had.
    DataError
        No study has an image, or none has a known finding, or the split does not fit.

    Examples
    --------
    >>> config = xc.load_preset("phantom_attention")  # doctest: +SKIP
    >>> encoder, rows = xc.train_encoder("phantom", config, "runs/encoder")  # doctest: +SKIP
    """
    out, cache = Path(out), Path(cache) if cache else None
    with run_folder(out, config, resume), seeded(config.encoder_training.seed):
        weights = weights_of(config, weights)
        before = trained_before(None if is_network(weights) else weights)
        studies, described = open_studies(studies)
        usable = with_images(studies)
        if usable.empty:
            raise DataError(
                f"none of {len(studies)} studies has an image on disk; check the folder"
            )
        names, known = finding_labels(usable)
        models = {weights: before}
        split = choose_split(studies, usable, config, split, models, cache=cache)
        if not len(_rows(usable, split.train)):
            raise DataError(
                "the training part of the split is empty; give more studies or fractions"
            )
        encoder = new_encoder(config, weights, names)
        claim_run(out, config, usable, split, weights)
        rows, sizes = _fitted(encoder, usable, known, config, out, split, cache)
        encoder.trained_on = record_training(studies, split, cache).including(before)
        data = {"digest": data_digest(studies), **sizes}
        described = {**described, **(about or {}), "data": data, "rows": rows}
        save_encoder(out, config, encoder, described)
        atomic_write(out / "metrics.json", json.dumps({"rows": rows}, indent=2) + "\n")
    return encoder, rows


def _fitted(
    encoder: Encoder,
    usable: pd.DataFrame,
    known: Labels,
    config: Config,
    out: Path,
    split: Split,
    cache: Path | None,
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Fit an encoder; return its rows on the test part, and how many studies each part has."""
    data = _datasets(usable, known, config, split, cache)
    present = prevalence(known[_rows(usable, split.train)])
    odds = present / (1 - present)
    # Rare findings get more weight, and the classifier starts at each one's (weighted) frequency.
    weights_of_present = odds**-0.5
    encoder.classifier.bias.assign(np.log(odds * weights_of_present))
    model = FindingModel(encoder)
    loss = MaskedBinaryCrossentropy(weights_of_present)
    compile_model(model, loss, config.encoder_training, len(data["train"]))
    fit(model, data, out, config.encoder_training)
    _shift_bias(encoder, -np.log(weights_of_present))
    validation = _calibrated(model, data["val"], known, usable, split)
    rows = _measure(model, data["test"], known, usable, split, validation)
    return rows, {f"{name}_studies": part.studies for name, part in data.items()}


def _calibrated(
    model: Any, data: BatchDataset, labels: Labels, studies: pd.DataFrame, split: Split
) -> tuple[Labels, Array] | None:
    """Make the mean probability of each finding right on images it has not learned from.

    Returned are validation labels and logits, or None where there are none.
    """
    if not data.studies:
        return None
    scores = model.predict(data, verbose=0)
    truth = labels[_rows(studies, split.val)]
    shift = intercept_shift(
        scores, truth, prevalence(labels[_rows(studies, [*split.train, *split.val])])
    )
    _shift_bias(model.encoder, shift)
    return truth, scores + shift


def _shift_bias(encoder: Encoder, shift: Array) -> None:
    # A logit is its bias plus what the image says, however regions are pooled.
    encoder.classifier.bias.assign(ops.convert_to_numpy(encoder.classifier.bias) + shift)


def _rows(studies: pd.DataFrame, ids: Sequence[str]) -> Array:
    return np.flatnonzero(studies["study_id"].isin(ids))


def _datasets(
    studies: pd.DataFrame, labels: Labels, config: Config, split: Split, cache: Path | None
) -> dict[str, BatchDataset]:
    image, options, images = config.image, config.encoder_training, study_images(studies, config)
    pixels = cached_pixels(images, config, cache)
    data = {}
    for name, ids in split.parts.items():
        rows, training = _rows(studies, ids), name == "train"
        chosen, varied = [images[i] for i in rows], image.augment and training
        inputs = pixel_inputs(pixels, chosen, image.views, image.normalisation, varied)
        make, seed = finding_batch(inputs, labels[rows]), options.seed if training else None
        data[name] = BatchDataset(make, len(rows), options.batch_size, seed)
    return data


def _measure(
    model: Any,
    data: BatchDataset,
    labels: Labels,
    studies: pd.DataFrame,
    split: Split,
    validation: tuple[Labels, Array] | None,
) -> list[dict[str, Any]]:
    if not data.studies:
        return []
    rows, scores = _rows(studies, split.test), model.predict(data, verbose=0)
    patients, names = group_ids(studies.iloc[rows]), model.encoder.findings
    counted = frequent_findings(names, labels[_rows(studies, split.train)])
    return classification_table(names, labels[rows], scores, validation, patients, counted)
