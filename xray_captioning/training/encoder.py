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

from xray_captioning.backend import keras, ops
from xray_captioning.config import Config
from xray_captioning.data.datasets import BatchDataset, finding_batch, pixel_inputs
from xray_captioning.data.features import Array
from xray_captioning.data.splits import Split, check_split, data_digest, split_studies
from xray_captioning.data.studies import with_images
from xray_captioning.data.targets import study_images
from xray_captioning.encoders import Encoder, FindingModel
from xray_captioning.encoders.caches import cached_pixels
from xray_captioning.encoders.saved import new_encoder, save_encoder
from xray_captioning.errors import DataError
from xray_captioning.files import atomic_write
from xray_captioning.metrics.classification import classification_table
from xray_captioning.training.captions import compile_model, fit
from xray_captioning.training.labels import Labels, finding_labels
from xray_captioning.training.losses import MaskedBinaryCrossentropy
from xray_captioning.training.run_state import claim_run

if TYPE_CHECKING:
    import pandas as pd


def train_encoder(
    studies: pd.DataFrame,
    config: Config,
    out: str | Path,
    cache: str | Path,
    weights: str = "random",
    split: Split | None = None,
    resume: bool = False,
    about: dict[str, Any] | None = None,
) -> tuple[Encoder, list[dict[str, Any]]]:
    """Fit an encoder on finding labels and save it as a bundle.

    Parameters
    ----------
    studies : pandas.DataFrame
        As :func:`xray_captioning.read_studies` returns it.
    config : Config
    out : path
        The run folder.
    cache : path
        Where resized pixels are kept.
    weights : str
        ``random``, ``imagenet``, a bundle whose encoder has the same network, or a Keras ``.h5``
        file of that network without its top.
    split : Split, optional
        Made from ``config.fractions`` when absent.
    resume : bool
        Go on with the run in ``out``.
    about : dict, optional
        More JSON values for the bundle.

    Returns
    -------
    encoder : Encoder
    rows : list of dict
        Area under the ROC curve and F1 a finding on the test part, with 95 % intervals.

    Raises
    ------
    DataError
        No study has an image, or none has a known finding.
    """
    out = Path(out)
    usable = with_images(studies)
    if usable.empty:
        raise DataError(f"none of {len(studies)} studies has an image on disk; check the folder")
    names, labels = finding_labels(usable)
    split = split or split_studies(usable, config.fractions)
    if not len(_rows(usable, split.train)):
        raise DataError("the training part of the split is empty; give more studies or fractions")
    check_split(split, studies)
    claim_run(out, config, usable, split, weights, resume)
    keras.utils.set_random_seed(config.encoder_training.seed)
    data = _datasets(usable, labels, config, split, cache)
    encoder = new_encoder(config, weights, names)
    odds = _odds(labels[_rows(usable, split.train)])
    # Rare findings are not drowned, and the classifier starts at each one's (weighted) frequency.
    weights_of_present = odds**-0.5
    encoder.classifier.bias.assign(np.log(odds * weights_of_present))
    model = FindingModel(encoder)
    loss = MaskedBinaryCrossentropy(weights_of_present)
    compile_model(model, loss, config.encoder_training, len(data["train"]))
    fit(model, data, out, config.encoder_training)
    # Without the weights again, so that the sigmoid of a logit is a probability.
    bias = ops.convert_to_numpy(encoder.classifier.bias)
    encoder.classifier.bias.assign(bias - np.log(weights_of_present))
    rows = _measure(model, data, labels, usable, split, names)
    _save(out, config, encoder, rows, split, {**(about or {}), **_counts(studies, data)})
    return encoder, rows


def _rows(studies: pd.DataFrame, ids: Sequence[str]) -> Array:
    return np.flatnonzero(studies["study_id"].isin(ids))


def _datasets(
    studies: pd.DataFrame, labels: Labels, config: Config, split: Split, cache: str | Path
) -> dict[str, BatchDataset]:
    image = config.image
    images = study_images(studies, config)
    pixels = cached_pixels(images, config, cache)
    data = {}
    for name, ids in split.parts.items():
        rows = _rows(studies, ids)
        inputs = pixel_inputs(
            pixels,
            [images[i] for i in rows],
            image.views,
            image.normalisation,
            augmented=image.augment and name == "train",
        )
        make = finding_batch(inputs, labels[rows])
        seed = config.encoder_training.seed if name == "train" else None
        data[name] = BatchDataset(make, len(rows), config.encoder_training.batch_size, seed)
    return data


def _odds(labels: Labels) -> Array:
    present = np.nansum(labels, axis=0) + 0.5
    absent = np.isfinite(labels).sum(axis=0) + 1 - present
    odds: Array = (present / absent).astype("float32")
    return odds


def _measure(
    model: Any,
    data: dict[str, BatchDataset],
    labels: Labels,
    studies: pd.DataFrame,
    split: Split,
    names: list[str],
) -> list[dict[str, Any]]:
    if not data["test"].studies:
        return []
    truth = labels[_rows(studies, split.test)]
    thresholds = None
    if data["val"].studies:
        scores = model.predict(data["val"], verbose=0)
        thresholds = (labels[_rows(studies, split.val)], scores)
    return classification_table(names, truth, model.predict(data["test"], verbose=0), thresholds)


def _counts(studies: pd.DataFrame, data: dict[str, BatchDataset]) -> dict[str, Any]:
    sizes = {f"{name}_studies": batches.studies for name, batches in data.items()}
    return {"data": {"digest": data_digest(studies), **sizes}}


def _save(
    out: Path,
    config: Config,
    encoder: Encoder,
    rows: list[dict[str, Any]],
    split: Split,
    about: dict[str, Any],
) -> None:
    save_encoder(out, config, encoder, {**about, "rows": rows}, split)
    atomic_write(out / "metrics.json", json.dumps({"rows": rows}, indent=2) + "\n")
