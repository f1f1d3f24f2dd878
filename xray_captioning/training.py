"""Fit a decoder on features that the frozen encoder computes once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xray_captioning.backend import compiled, keras
from xray_captioning.captioner import Captioner, new_model
from xray_captioning.config import Config, TrainingConfig
from xray_captioning.data.batches import Batches, caption_batch, caption_lengths
from xray_captioning.data.features import ArrayCache
from xray_captioning.data.splits import Split, check_split, data_digest, split_studies
from xray_captioning.encoders import Encoder
from xray_captioning.encoders.saved import encode_images, load_weights, weights_digest
from xray_captioning.errors import ConfigError, DataError
from xray_captioning.files import atomic_write
from xray_captioning.plots import plot_curves
from xray_captioning.references import reference_texts, study_images, usable_studies
from xray_captioning.run_state import BEST, RunState
from xray_captioning.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    import pandas as pd

RUN = "run.json"


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
        Stays as it is.
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
    keras.utils.set_random_seed(config.training.seed)
    parts = {name: usable[usable["study_id"].isin(ids)] for name, ids in split.parts.items()}
    if not len(parts["train"]):
        raise DataError("the training part of the split is empty; give more studies or fractions")
    texts = {name: reference_texts(part, config) for name, part in parts.items()}
    tokenizer = Tokenizer.fit(texts["train"], config.text.minimum_frequency)
    data = _datasets(parts, texts, tokenizer, config, encoder, cache)
    model = new_model(config, encoder, tokenizer)
    compile_model(model, caption_loss(), config.training, len(data["train"]), caption_metrics())
    fit(model, data, out, config.training)
    trained = new_model(config, encoder, tokenizer)
    trained.set_weights(model.get_weights())  # a compiled model would save its optimizer, too
    sizes = {f"{name}_studies": len(part) for name, part in parts.items()}
    described = {**(about or {}), "data": {"digest": data_digest(studies), **sizes}}
    captioner = Captioner(config, encoder, trained, tokenizer, described, split)
    captioner.save(out)
    return captioner


def _datasets(
    parts: dict[str, pd.DataFrame],
    texts: dict[str, list[str]],
    tokenizer: Tokenizer,
    config: Config,
    encoder: Encoder,
    cache: str | Path,
) -> dict[str, Batches]:
    features = feature_cache(encoder, config, cache)
    data = {}
    for name in ("train", "val"):
        images = study_images(parts[name], config)
        tokens = tokenizer.encode_batch(texts[name], config.text.maximum_length)
        fill_features(features, encoder, config, images)
        make = caption_batch(features, images, config.image.views, tokens)
        seed = config.training.seed if name == "train" else None
        lengths = caption_lengths(tokens)
        data[name] = Batches(make, len(images), config.training.batch_size, seed, lengths)
    return data


def feature_cache(encoder: Encoder, config: Config, folder: str | Path) -> ArrayCache:
    """Open the features of this encoder, these weights and this preprocessing."""
    settings = {
        "version": 1,  # of the code that reads and encodes images
        "encoder": encoder.name_of_backbone,
        "weights": weights_digest(encoder),
        "pool": encoder.pool,
        "size": config.image.size,
        "resize": config.image.resize,
        "normalisation": config.image.normalisation,
    }
    return ArrayCache(Path(folder), settings)


def fill_features(
    cache: ArrayCache, encoder: Encoder, config: Config, images: Sequence[Sequence[str]]
) -> None:
    """Encode the images that the cache does not have."""
    encode = compiled(encoder.encode, encoder)
    paths = [path for study in images for path in study]
    cache.fill(paths, lambda some: encode_images(encode, config, some), "encode images")


def caption_loss() -> Any:
    """Return cross-entropy from logits, averaged over real tokens."""
    return keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction="mean_with_sample_weight"
    )


def caption_metrics() -> list[Any]:
    """Return the share of real tokens that are predicted exactly."""
    return [keras.metrics.SparseCategoricalAccuracy(name="token_accuracy")]


def compile_model(
    model: Any, loss: Any, training: TrainingConfig, batches: int, metrics: Sequence[Any] = ()
) -> None:
    """Compile with AdamW, an epoch of warm-up, a cosine decay and a bound on the gradient norm."""
    decay = keras.optimizers.schedules.CosineDecay(
        training.learning_rate / 10,
        decay_steps=max(training.epochs - 1, 1) * batches,
        warmup_target=training.learning_rate,
        warmup_steps=batches,
    )
    optimizer = keras.optimizers.AdamW(
        decay,
        weight_decay=training.weight_decay,
        global_clipnorm=training.clip_norm or None,
    )
    model.compile(optimizer, loss, weighted_metrics=list(metrics))


def fit(
    model: Any, data: dict[str, Batches], out: Path, training: TrainingConfig
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
            callbacks=[state, EpochBar(done, training.epochs)],
        )
    plot_curves(state.history, out / "curves.png")
    load_weights(model, out / BEST, "this run")
    return state.history


class EpochBar(keras.callbacks.Callback):
    """One progress bar over all epochs, silent where there is no terminal."""

    def __init__(self, done: int, epochs: int) -> None:
        super().__init__()
        self.done, self.epochs = done, epochs

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Open the bar."""
        from tqdm import tqdm

        self.bar = tqdm(
            total=self.epochs, initial=self.done, desc="train", unit="epoch", disable=None
        )

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Show the losses."""
        self.bar.update()
        self.bar.set_postfix({k: f"{v:.3f}" for k, v in (logs or {}).items() if "loss" in k})

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Close the bar."""
        self.bar.close()


def claim_run(
    out: Path,
    config: Config,
    studies: pd.DataFrame,
    split: Split,
    weights: str,
    resume: bool,
) -> None:
    """Make the run folder this run's own, or check that it is.

    Parameters
    ----------
    out : Path
    config : Config
    studies : pandas.DataFrame
    split : Split
    weights : str
        What the run starts from: a digest or a name.
    resume : bool

    Raises
    ------
    ConfigError
        The folder holds a run and ``resume`` is False, or holds another run.
    """
    path = out / RUN
    values = {
        "config": config.to_dict(),
        "data": data_digest(studies),
        "split": split.digest,
        "weights": weights,
    }
    if not path.is_file():
        if out.is_dir() and any(out.iterdir()):
            raise ConfigError(f"{out}: is not empty and holds no run; choose another folder")
        atomic_write(path, json.dumps(values, indent=2) + "\n")
        return
    if not resume:
        raise ConfigError(
            f"{out}: holds a run already; go on with --resume or choose another --out"
        )
    try:
        saved = dict(json.loads(path.read_text("utf-8")))
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path}: is damaged; choose another folder") from error
    different = sorted(name for name in values if values[name] != saved.get(name))
    if different:
        raise ConfigError(
            f"{out}: was started with other {' and '.join(different)}; "
            "resume with the same data and options, or choose another --out"
        )
