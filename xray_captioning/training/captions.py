"""Fit a decoder on features that the frozen encoder computes once, or its last block, too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xray_captioning.backend import keras
from xray_captioning.captioner.captioner import Captioner, new_model
from xray_captioning.config import Config, TrainingConfig
from xray_captioning.data.datasets import (
    BatchDataset,
    Inputs,
    caption_batch,
    caption_lengths,
    feature_inputs,
    pixel_inputs,
)
from xray_captioning.data.features import Array
from xray_captioning.data.splits import Split, check_split, data_digest, split_studies
from xray_captioning.data.targets import study_images, training_texts, usable_studies
from xray_captioning.decoders.language_model import load_language_model, resolve_language_model
from xray_captioning.encoders import Encoder
from xray_captioning.encoders.caches import Images, cached_features, cached_pixels
from xray_captioning.encoders.saved import load_weights, weights_digest
from xray_captioning.errors import DataError
from xray_captioning.plots import curves, save
from xray_captioning.text.tokenizer import Tokenizer
from xray_captioning.training.labels import finding_labels, rarity
from xray_captioning.training.losses import WordCrossentropy
from xray_captioning.training.run_state import BEST, EpochBar, RunState, claim_run
from xray_captioning.training.teacher_forcing import SamplingSchedule, TeacherForcing, TwoRates

if TYPE_CHECKING:
    import pandas as pd


def train(
    studies: pd.DataFrame,
    config: Config,
    out: str | Path,
    encoder: Encoder,
    cache: str | Path,
    split: Split | None = None,
    resume: bool = False,
    about: dict[str, Any] | None = None,
) -> Captioner:
    """Fit head and decoder, keep the best epoch, save it as a bundle.

    The run folder holds the bundle, ``log.csv``, ``curves.png`` and the state from which an
    interrupted run goes on to the same losses as an unbroken one.

    Parameters
    ----------
    studies : pandas.DataFrame
        As :func:`xray_captioning.read_studies` returns it.
    config : Config
    out : path
        The run folder.
    encoder : Encoder
        Stays as it is, unless ``config.training.encoder_learning_rate`` is above 0: then its
        last block is trained.
    cache : path
        Where features are kept; runs with the same encoder and images share them.
    split : Split, optional
        Made from ``config.fractions`` when absent.
    resume : bool
        Go on with the run in ``out``.
    about : dict, optional
        More JSON values for the bundle.

    Returns
    -------
    Captioner

    Raises
    ------
    ConfigError
        ``out`` holds a run already, or, with ``resume``, another one.
    DataError
        No study has both an image and a text.
    """
    out = Path(out)
    usable = usable_studies(studies, config)
    split = split or split_studies(usable, config.fractions)
    check_split(split, studies)
    claim_run(out, config, usable, split, weights_digest(encoder), resume)
    # What was asked for claims the run; what could be had goes into the bundle.
    config, language = resolve_language_model(config)
    keras.utils.set_random_seed(config.training.seed)
    parts = {name: usable[usable["study_id"].isin(ids)] for name, ids in split.parts.items()}
    if not len(parts["train"]):
        raise DataError("the training part of the split is empty; give more studies or fractions")
    tokenizer = language.tokenizer if language else _tokenizer(parts["train"], config)
    labels = _labels(parts, config)
    data = {
        name: _batches(name, parts[name], tokenizer, labels.get(name), config, encoder, cache)
        for name in ("train", "val")
    }
    captions = new_model(config, encoder, tokenizer)
    if language:
        load_language_model(captions.decoder, language)
    _fit(captions, data, out, config, encoder, tokenizer, labels)
    sizes = {f"{name}_studies": len(part) for name, part in parts.items()}
    described = {**(about or {}), "data": {"digest": data_digest(studies), **sizes}}
    captioner = Captioner(config, encoder, captions, tokenizer, described, split)
    captioner.save(out)
    return captioner


def _tokenizer(train: pd.DataFrame, config: Config) -> Tokenizer:
    return Tokenizer.fit(training_texts(train, config), config.text.minimum_frequency)


def _labels(parts: dict[str, pd.DataFrame], config: Config) -> dict[str, Array]:
    # Labels of findings that some training study has; none where nobody asks for them.
    if not (config.training.finding_weight or config.training.balanced):
        return {}
    names, train = finding_labels(parts["train"])
    return {"train": train, "val": finding_labels(parts["val"], names)[1]}


def _batches(
    name: str,
    studies: pd.DataFrame,
    tokenizer: Any,
    labels: Array | None,
    config: Config,
    encoder: Encoder,
    cache: str | Path,
) -> BatchDataset:
    training = name == "train"
    texts = training_texts(studies, config)
    tokens = tokenizer.encode_batch(texts, config.text.maximum_length)
    inputs = _inputs(study_images(studies, config), config, encoder, cache, training)
    options = config.training
    return BatchDataset(
        caption_batch(inputs, tokens, labels if options.finding_weight else None),
        len(studies),
        options.batch_size,
        options.seed if training else None,
        caption_lengths(tokens),
        rarity(labels) if training and options.balanced and labels is not None else None,
    )


def _inputs(
    images: Images, config: Config, encoder: Encoder, cache: str | Path, training: bool
) -> Inputs:
    image = config.image
    if not config.training.encoder_learning_rate:
        features = cached_features(images, encoder, config, cache)
        return feature_inputs(features, images, image.views)
    pixels = cached_pixels(images, config, cache)
    varied = image.augment and training
    return pixel_inputs(pixels, images, image.views, image.normalisation, varied)


def _fit(
    captions: Any,
    data: dict[str, BatchDataset],
    out: Path,
    config: Config,
    encoder: Encoder,
    tokenizer: Any,
    labels: dict[str, Array],
) -> None:
    """Fit a caption model as the configuration says, in the precision it says."""
    fitted = _in_precision(captions, config, encoder, tokenizer)
    model = _teacher_forcing(fitted, config, encoder, labels)
    compile_captions(model, config.training, len(data["train"]))
    fit(model, data, out, config.training, [SamplingSchedule(config.training)])
    captions.set_weights(fitted.get_weights())


def _in_precision(captions: Any, config: Config, encoder: Encoder, tokenizer: Any) -> Any:
    """Return the model itself, or one of the same weights that computes in bfloat16."""
    if config.training.precision == "float32":
        return captions
    fitted = new_model(config, encoder, tokenizer, "mixed_bfloat16")
    fitted.set_weights(captions.get_weights())
    return fitted


def _teacher_forcing(
    captions: Any, config: Config, encoder: Encoder, labels: dict[str, Array]
) -> TeacherForcing:
    options = config.training
    if options.encoder_learning_rate:
        encoder.unfreeze_last_block()
    return TeacherForcing(
        captions,
        options,
        encoder if options.encoder_learning_rate else None,
        labels["train"].shape[1] if options.finding_weight else 0,
    )


def compile_captions(model: TeacherForcing, training: Any, batches: int) -> None:
    """Compile a caption model in training; an encoder in it has a learning rate of its own.

    Parameters
    ----------
    model : TeacherForcing
    training : CaptionTrainingConfig
    batches : int
        Of an epoch.
    """
    slow = model.encoder.trainable_variables if model.encoder else []
    ratio = training.encoder_learning_rate / training.learning_rate if slow else 1.0
    loss = WordCrossentropy(training.label_smoothing)
    accuracy = keras.metrics.SparseCategoricalAccuracy(name="token_accuracy")
    compile_model(model, loss, training, batches, [accuracy], slow, ratio)


def compile_model(
    model: Any,
    loss: Any,
    training: TrainingConfig,
    batches: int,
    metrics: Sequence[Any] = (),
    slow: Sequence[Any] = (),
    ratio: float = 1.0,
) -> None:
    """Compile with AdamW, an epoch of warm-up, a cosine decay and a bound on the gradient norm.

    The rate of the variables in ``slow`` is multiplied by ``ratio``. The schedule counts batches,
    accumulated or not; there are ``batches`` in an epoch.
    """
    accumulated = training.accumulated_batches
    decay = keras.optimizers.schedules.CosineDecay(
        training.learning_rate / 10,
        decay_steps=max(training.epochs - 1, 1) * batches,
        warmup_target=training.learning_rate,
        warmup_steps=batches,
    )
    optimizer = TwoRates(
        slow,
        ratio,
        decay,
        weight_decay=training.weight_decay,
        global_clipnorm=training.clip_norm or None,
        gradient_accumulation_steps=accumulated if accumulated > 1 else None,
    )
    model.compile(optimizer, loss, weighted_metrics=list(metrics))


def fit(
    model: Any,
    data: dict[str, BatchDataset],
    out: Path,
    training: TrainingConfig,
    callbacks: Sequence[Any] = (),
) -> list[dict[str, float]]:
    """Fit a compiled model, or go on fitting it, and leave it with its best weights.

    Parameters
    ----------
    model : keras.Model
    data : dict
        ``train`` and ``val`` batches; with an empty ``val`` the training loss chooses the epoch.
    out : Path
        The run folder.
    training : TrainingConfig
    callbacks : sequence of keras.callbacks.Callback, optional
        Called before the run's state is written.

    Returns
    -------
    list of dict
        The log, a row an epoch.
    """
    validation = data["val"] if data["val"].studies else None
    monitor = "val_loss" if validation is not None else "loss"
    state = RunState(out, data["train"], monitor, training.patience)
    done = state.restore(model)
    if not state.finished and done < training.epochs:
        model.fit(
            data["train"],
            validation_data=validation,
            epochs=training.epochs,
            initial_epoch=done,
            shuffle=False,
            verbose=0,
            callbacks=[*callbacks, state, EpochBar(done, training.epochs)],
        )
    save(curves(state.history), out / "curves.png")
    load_weights(model, out / BEST, "this run")
    return state.history
