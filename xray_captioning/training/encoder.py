"""Teach an encoder to classify findings: labels first, captions on frozen features after, as CheXNet
(arXiv:1711.05225). A decoder that is trained jointly with an encoder from scratch collapses to the commonest sentences.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from xray_captioning.backend import compiled, keras, ops, registered, replicas, seeded, streamed, training_scope
from xray_captioning.captioner.evidence import region_offset
from xray_captioning.config import Config
from xray_captioning.data import datasets, outlines, provenance, targets
from xray_captioning.data.features import Array
from xray_captioning.data.splits import Split, data_digest, group_ids
from xray_captioning.data.studies import Studies, with_images
from xray_captioning.encoders import Encoder, FindingModel, encoding, parts, saved
from xray_captioning.encoders.encoder import mean_region, pooled_evidence
from xray_captioning.errors import DataError
from xray_captioning.files import atomic_write, progress, say
from xray_captioning.metrics.classification import classification_table, frequent_findings
from xray_captioning.training.captions import Batches, compile_model, fit
from xray_captioning.training.labels import Labels, finding_labels, intercept_shift, prevalence, side_labels
from xray_captioning.training.losses import Averaged, MaskedBinaryCrossentropy, evidence_outside
from xray_captioning.training.run_folder import RunFolder

PENALTY = 1e-3  # scikit-learn's C: the smaller, the nearer to 0 are the weights of features


def train_encoder(
    studies: Studies | str | Path | Callable[[], Studies],
    config: Config,
    out: str | Path,
    weights: str | None = None,
    *,
    split: Split | str | Path | None = None,
    cache: str | Path | None = None,
    resume: bool = False,
    about: dict[str, Any] | None = None,
    callbacks: Sequence[Any] = (),
    devices: Literal["one", "all"] = "one",
) -> tuple[Encoder, list[dict[str, Any]]]:
    """Train an encoder to classify findings, and save its best epoch as a bundle (docs/training.md).

    Parameters
    ----------
    studies, config, out, resume, about, callbacks, devices
        As :func:`xray_captioning.train` takes them.
    weights : str, optional
        What the network starts from: ``random``, ``imagenet`` (its published weights, which are downloaded and the
        default, if there are any), a bundle whose encoder is the same network, or a Keras ``.h5`` file without its top.
    split : Split or path, optional
        A split, or its file; made from ``config.fractions`` when absent.
    cache : path, optional
        Where resized pixels are kept between runs; the usual folder when absent.

    Returns
    -------
    encoder : Encoder
    rows : list of dict
        What :func:`xray_captioning.metrics.classification.classification_table` measures of each finding on the test
        part, by patient.

    Raises
    ------
    ConfigError
        ``out`` holds a run already, or, with ``resume``, another one; the bundle in ``weights`` was trained on test
        studies; or the published weights cannot be had.
    DataError
        No study has an image, or none has a known finding, or the split does not fit.
    """
    out, cache = Path(out), Path(cache) if cache else None
    run = RunFolder(out, config, resume, "encoder_training", callbacks, devices)
    with run, seeded(config.encoder_training.seed):
        weights = saved.weights_of(config, weights)
        before = saved.trained_before(None if saved.is_network(weights) else weights)
        studies, described, split = provenance.open_studies(studies, split)
        usable = with_images(studies)
        if usable.empty:
            raise DataError(f"none of {len(studies)} studies has an image on disk; check the folder")
        names, labels = finding_labels(usable)
        split = provenance.choose_split(studies, usable, config, split, {weights: before}, cache=cache)
        rows = {part: np.flatnonzero(usable["study_id"].isin(i)) for part, i in split.parts.items()}
        if not len(rows["train"]):
            raise DataError("the training part of the split is empty; give more studies or fractions")
        encoder = saved.new_encoder(config, weights, names)
        run.claim(usable, split, weights)
        table = _fitted(encoder, _LabelledStudies(usable, labels, rows), run, cache)
        encoder.trained_on = provenance.record_training(studies, split, cache).including(before)
        data = {"digest": data_digest(studies), **{f"{part}_studies": len(n) for part, n in rows.items()}}
        described = {**described, **(about or {}), "data": data, "rows": table}
        saved.save_encoder(out, config, encoder, described)
        atomic_write(out / "metrics.json", json.dumps({"rows": table}, indent=2) + "\n")
    return encoder, table


@registered
class FindingsInTraining(Averaged, FindingModel):
    """A finding model whose loss is the mean over all studies; it may learn so many `sides`, and outlines."""

    def __init__(self, sides: int, weights: tuple[float, float], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.own, self.weights_of_losses = {"sides": sides, "weights": weights}, weights
        if sides:
            self.side_loss = MaskedBinaryCrossentropy([1.0] * sides, reduction=None)
            self.sides = keras.layers.Dense(sides, name="sides", dtype="float32")
            self.sides.build((None, None, self.encoder.channels))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.own}

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        """Return logits (batch, findings), as a finding model does, and add the other losses in training."""
        features, mask = self.seen(inputs, training)
        wide = ops.cast(features, "float32")
        if training and "sides" in inputs:
            found = self.side_loss(inputs["sides"], pooled_evidence(self.sides(wide), mask))
            self.add_mean(self.weights_of_losses[0], found, inputs)
        if training and "cells" in inputs:
            found = evidence_outside(self.encoder.classifier(wide), mask, inputs["cells"])
            self.add_mean(self.weights_of_losses[1], found, inputs)
        return self.encoder.classify(features, mask)


class _LabelledStudies(NamedTuple):
    """Studies, their labels (studies, findings), each part's row numbers, and what is `more` known for training."""

    studies: Studies
    labels: Labels
    rows: dict[str, Array]
    more: dict[str, Array] = {}  # noqa: RUF012


def _fitted(encoder: Encoder, given: _LabelledStudies, run: RunFolder, cache: Path | None) -> list[dict[str, Any]]:
    options, (lower, upper) = run.config.encoder_training, _parts(encoder, run.config)
    if lower and not upper:
        say("the frozen layers are computed in each step, as images vary: their outputs are kept without image.augment")
    given = given._replace(more=_more(given, encoder, run.config))
    data, labels = _datasets(given, run.config, cache, lower if upper else None), given.labels[given.rows["train"]]
    present = prevalence(labels)
    odds = present / (1 - present)
    # Rare findings get more weight, and the classifier starts at each one's (weighted) frequency.
    weights_of_present, bias = odds**-0.5, np.log(odds)
    if options.classifier_first:
        kernel, bias = logistic_regressions(_pooled(encoder, data["unvaried"], upper), labels)
        encoder.classifier.kernel.assign(kernel)
    encoder.classifier.bias.assign(bias + np.log(weights_of_present))
    with training_scope(run.devices, options.precision) as anew:
        own = saved.copy_encoder(encoder, encoder.pool) if anew or lower else encoder
        frozen, rest = _parts(own, run.config)
        if frozen:
            frozen.trainable = False
        more = given.more["sides"].shape[1] if options.side_weight else 0, (options.side_weight, options.region_weight)
        fitted = FindingsInTraining(*more, own, options.classifier_first, options.checkpointing, rest)
        for layer in own.backbone.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.synchronized = replicas() > 1  # statistics of the whole batch
        loss = MaskedBinaryCrossentropy(weights_of_present, reduction="sum")
        compile_model(fitted, loss, options, len(data["train"]), run.start)
        fit(fitted, data, run, options)
    encoder.set_weights(own.get_weights())
    model = FindingModel(encoder, upper=upper)
    _shift_bias(encoder, -np.log(weights_of_present))
    validation = _calibrated(model, data["val"], given) if len(given.rows["val"]) else None
    return _measure(model, data["test"], given, validation) if len(given.rows["test"]) else []


def _parts(encoder: Encoder, config: Config) -> tuple[Any, Any]:
    """Return the part of a network that stays as it is, and the other where that gets kept outputs of the first."""
    if not (name := config.encoder_training.trainable_from):
        return None, None
    lower, upper = parts.cut(encoder, name)
    return lower, None if config.image.augment else upper


def _pooled(encoder: Encoder, batches: datasets.BatchDataset, upper: Any) -> Array:
    """Return the mean regions (studies, channels) that a network as it is sees."""

    def pool(images: Any, mask: Any) -> Any:
        return mean_region(encoder(images, training=False, network=upper), encoder.region_mask(mask))

    run, rows = compiled(pool, encoder), []
    for number in progress(range(len(batches)), "encode", leave=False):
        inputs, _ = batches[number]
        rows.append(ops.convert_to_numpy(run(inputs["images"], inputs["mask"])))
    return np.concatenate(rows)


def logistic_regressions(features: Array, labels: Labels) -> tuple[Array, Array]:
    """Fit each finding to features (studies, channels): kernel (channels, findings) and bias (findings,)."""
    # Where all known labels are the same, the one is 0 and the other half a study away from them.
    from sklearn.linear_model import LogisticRegression

    mean, deviation = features.mean(axis=0), features.std(axis=0) + 0.01 * features.std()
    present = prevalence(labels)
    kernel, bias = np.zeros((len(mean), len(present))), np.log(present / (1 - present))
    for i, known in enumerate(np.isfinite(labels).T):
        truth = labels[known, i]
        if 0 < truth.sum() < len(truth):
            found = LogisticRegression(C=PENALTY, max_iter=1000).fit((features[known] - mean) / deviation, truth)
            kernel[:, i] = found.coef_[0] / deviation
            bias[i] = found.intercept_[0] - mean @ kernel[:, i]
    return kernel, bias


def _calibrated(model: Any, data: Any, given: _LabelledStudies) -> tuple[Labels, Array]:
    """Make each finding's mean probability right on validation images; return their labels and logits."""
    train, val = given.rows["train"], given.rows["val"]
    scores, truth = _logits(model, data), given.labels[val]
    shift = intercept_shift(scores, truth, prevalence(given.labels[[*train, *val]]))
    _shift_bias(model.encoder, shift)
    return truth, scores + shift


def _logits(model: Any, data: Any) -> Array:
    with progress(total=len(data), desc="findings", leave=False) as bar:
        moved = keras.callbacks.LambdaCallback(on_predict_batch_end=lambda batch, logs: bar.update())
        return np.asarray(model.predict(streamed(data), verbose=0, callbacks=[moved]))


def _shift_bias(encoder: Encoder, shift: Array) -> None:
    # A logit is its bias plus what the image says, however regions are pooled.
    encoder.classifier.bias.assign(ops.convert_to_numpy(encoder.classifier.bias) + shift)


def _more(given: _LabelledStudies, encoder: Encoder, config: Config) -> dict[str, Array]:
    """Return what training studies are known of beside their findings, where it is learned."""
    options, rows = config.encoder_training, given.rows["train"]
    studies, more = given.studies.iloc[rows], dict[str, Array]()
    if options.side_weight:
        more["sides"] = side_labels(studies, encoder.findings, given.labels[rows])
        if not more["sides"].size:
            raise DataError("no report says on which side a finding is; leave encoder_training.side_weight at 0")
    if options.region_weight:
        more["cells"] = outlined_cells(studies, encoder, config)
    return more


def outlined_cells(studies: Any, encoder: Encoder, config: Config) -> Array:
    """Return in which regions findings are outlined: (studies, regions, findings) bool; none at all is a DataError."""
    known, (rows, columns), image = outlines.read_outlines(studies), encoder.grid, config.image
    cells = np.zeros((len(studies), image.views, rows, columns, len(encoder.findings)), bool)
    offset = region_offset(encoder.encode, config, encoder.grid)
    for row, name, shown in zip(cells, studies["study_id"], targets.study_images(studies, config)):
        for view, path in enumerate(shown):
            for one in known.get((name, Path(path or "").name), []):
                seen = outlines.moved(outlines.seen_of(str(path), image.size, image.resize), offset)
                if one.finding in encoder.findings:
                    row[view, ..., encoder.findings.index(one.finding)] |= outlines.touched([one], encoder.grid, seen)
    if not cells.any():
        raise DataError("no finding is outlined on a training image; leave encoder_training.region_weight at 0")
    return cells.reshape(len(studies), -1, len(encoder.findings))


def _datasets(given: _LabelledStudies, config: Config, cache: Path | None, lower: Any) -> Batches:
    image, options, data = config.image, config.encoder_training, {}
    images = targets.study_images(given.studies, config)
    pixels = encoding.cached_pixels(images, config, cache)
    kept = encoding.kept_inputs(images, pixels, lower, config, cache) if lower else None
    for name, rows in {**given.rows, "unvaried": given.rows["train"]}.items():
        chosen, training = [images[i] for i in rows], name == "train"
        varied, seed = image.augment and training, options.seed if training else None
        shown = datasets.pixel_inputs(pixels, chosen, image.views, image.normalisation, varied)
        known = kept(chosen) if kept else shown, given.labels[rows], given.more if training else {}
        data[name] = datasets.BatchDataset(datasets.finding_batch(*known), len(rows), options.batch_size, seed)
    return data


def _measure(
    model: Any, data: Any, given: _LabelledStudies, validation: tuple[Labels, Array] | None
) -> list[dict[str, Any]]:
    rows, scores = given.rows["test"], _logits(model, data)
    patients, names = group_ids(given.studies.iloc[rows]), model.encoder.findings
    counted = frequent_findings(names, given.labels[given.rows["train"]])
    return classification_table(names, given.labels[rows], scores, validation, patients, counted)
