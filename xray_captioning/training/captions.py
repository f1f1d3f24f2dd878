"""Train a decoder on the features of a frozen encoder, or with the encoder's last block."""

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, NamedTuple

from xray_captioning.backend import device_count, keras, ops, replicas, seeded, streamed, training_scope
from xray_captioning.bundles.bundle import FEATURES, find_bundle, read_bundle
from xray_captioning.captioner.captioner import Captioner
from xray_captioning.comparison.evaluate import measure
from xray_captioning.config import Config
from xray_captioning.data import datasets, outlines, provenance, targets
from xray_captioning.data.datasets import BatchDataset, Inputs
from xray_captioning.data.feature_files import StudyFeatures
from xray_captioning.data.features import Array
from xray_captioning.data.splits import Split, data_digest
from xray_captioning.data.studies import Studies
from xray_captioning.decoders import CaptionModel, check_decoder, language_model
from xray_captioning.decoders.model import new_model
from xray_captioning.encoders import Encoder, encoding, saved
from xray_captioning.errors import ConfigError, DataError
from xray_captioning.evaluation.matching import features_of
from xray_captioning.metrics.clinical import counted_findings
from xray_captioning.plots.charts import curves, save
from xray_captioning.text.tokenizer import Tokenizer
from xray_captioning.training import loggers, losses, run_state, teacher_forcing
from xray_captioning.training.caption_score import SAMPLES, CaptionSamples, CaptionScore, monitored_studies
from xray_captioning.training.labels import rarity, sided_labels
from xray_captioning.training.reward import Reward, Rewarded
from xray_captioning.training.run_folder import RunFolder

Batches = dict[str, BatchDataset]  # of the parts of a split
# Of the configuration, what shapes head and decoder beside the decoder's own fields.
SHAPES = ("decoder", "head", "normalisation", "positions", "pool")


def train(
    studies: Studies | str | Path | Callable[[], Studies],
    config: Config,
    out: str | Path,
    encoder: Encoder | str | Path | None = None,
    *,
    split: Split | str | Path | None = None,
    cache: str | Path | None = None,
    resume: bool = False,
    about: dict[str, Any] | None = None,
    measured: bool = True,
    weights: str | None = None,
    features: Any = None,
    start_from: str | Path | None = None,
    callbacks: Sequence[Any] = (),
    devices: Literal["one", "all"] = "one",
) -> Captioner:
    """Train a decoder to write captions, keep its best epoch, and save it as a bundle (docs/training.md).

    Parameters
    ----------
    studies : pandas.DataFrame, path or callable
        As :func:`xray_captioning.read_studies` returns it, what it reads, or what returns it.
    config : Config
        A recipe, such as :func:`xray_captioning.load_preset` returns.
    out : path
        The run folder: the bundle, ``log.csv``, ``curves.png``, and the state from which `resume` goes on.
    encoder : Encoder or path, optional
        An encoder, or a bundle with one. Without it the configuration's encoder starts from ``weights``. It stays as it
        is: where ``config.training.encoder_learning_rate`` is above 0, the last block of a copy is trained.
    split : Split or path, optional
        A split, or its file. Without one it is that of the encoder's bundle, where that was trained on these very
        studies, or else made from ``config.fractions``.
    cache : path, optional
        Where features are kept between runs; the usual folder when absent.
    resume : bool
        Go on with the run in ``out``, if there is one, to the losses of an unbroken one; for more epochs, if the
        configuration has more. ``training.schedule`` says at which rate.
    about : dict, optional
        More JSON values for the bundle, beside what is known of the path of the studies.
    measured : bool
        Compare the captioner with the baselines on the test studies; its ``about["rows"]`` is that table.
    weights : str, optional
        What the configuration's encoder starts from where no other is given: ``random``, ``imagenet`` (its published
        weights, which are downloaded and the default, if there are any), or a Keras ``.h5`` file of that network
        without its top.
    features : path, StudyFeatures, tuple or mapping, optional
        Features to train on instead of images: a file that :func:`open_features
        <xray_captioning.data.feature_files.open_features>` reads, (ids, array), or arrays by study id; (studies, views,
        rows, columns, channels) or (studies, regions, channels), of any float dtype. The captioner has the encoder that
        they name, or that is given, if its weights made them; else it writes captions of features only.
    start_from : path, optional
        A bundle whose captioner is trained further, instead of an encoder: with its encoder, its decoder's weights and
        its words, to which those of the studies' texts are added.
    callbacks : sequence, optional
        Keras callbacks, which are called before an epoch is written; or ``tensorboard``, ``mlflow`` or ``wandb``, whose
        own callback then writes into a folder of that name in the run folder, without network.
    devices : {"one", "all"}
        ``all`` divides every batch among all GPUs, or all devices of the backend if there is none. A batch, and but for
        rounding and dropout a loss, is what it is on one.

    Raises
    ------
    ConfigError
        ``out`` holds a run already, or, with ``resume``, another one; the encoder, or the captioner to start from, does
        not fit the configuration, or was trained on test studies; or published weights cannot be had.
    DataError
        No study has both an image and a text, or the split does not fit; or features are not of these studies, each
        once, or are no numbers.
    """
    out, cache = Path(out), Path(cache) if cache else None
    with RunFolder(out, config, resume, callbacks=callbacks, devices=devices) as run:
        check_decoder(config.model)
        first = starting_captioner(start_from, encoder, weights, features is None)
        encoder = start_from if first and first.config.model.encoder != FEATURES else encoder
        before = saved.trained_before(encoder)
        if features is None:
            saved.check_start(config, encoder, weights)
        studies, described, split = provenance.open_studies(studies, split, features is None)
        given = features_of(features, studies)
        _ = measured and outlines.read_outlines(studies)  # what does not fit is said at once
        usable = targets.usable_studies(studies, config, given)
        start, name = None, "the encoder" if isinstance(encoder, Encoder) else str(encoder)
        if given is not None:
            given.check(usable["study_id"])
            with seeded(config.training.seed):
                config, start = encoding.features_encoder(config, given, encoder, weights)
            name, before, described["features"] = given.source, start.trained_on, encoding.made_by(given)
        if first:
            name, own = str(start_from), first.trained_on
            check_start(first, name, config)
            before = own.including(before) if own else before
        split = provenance.choose_split(studies, usable, config, split, {name: before}, cache=cache)
        with seeded(config.training.seed):  # a run that is resumed starts from the same
            start = start or saved.starting_encoder(config, encoder, weights)
            if config.training.encoder_learning_rate and isinstance(encoder, Encoder):
                start = saved.copy_encoder(encoder, encoder.pool)  # the caller's stays as it is
        digest = given.digest() if given else saved.weights_digest(start)
        if first:
            language, digest = None, f"{digest} {saved.weights_digest(first.model)}"
        else:
            config, language = language_model.resolve_language_model(config)
        run.claim(usable, split, digest)
        with seeded(config.training.seed):
            captioner = _trained(usable, _Material(config, start, cache, language, given, first), run, split)
        described |= about or {}
        data = {"digest": data_digest(studies), "read_as": studies.attrs.get("source")}
        captioner.about = {**described, "data": data | captioner.about}
        captioner.trained_on = provenance.record_training(studies, split, cache).including(before)
        captioner.save(out)
        if measured:
            measure(captioner, studies, out, cache, features=given)
    return captioner


def starting_captioner(bundle: str | Path | None, encoder: Any, weights: str | None, images: bool) -> Captioner | None:
    """Load the captioner to begin with, if there is one; it has its own encoder."""
    if bundle is None:
        return None
    if encoder is not None or weights is not None:
        raise ConfigError(f"{bundle}: is where encoder and decoder start from; leave out the encoder and weights")
    folder = find_bundle(bundle)
    read_bundle(folder, "captioner", images)
    return Captioner.load(folder)


def check_start(start: Captioner, bundle: str, config: Config) -> None:
    """Refuse a captioner whose decoder is another than the configuration's, or of another shape."""
    row, _ = check_decoder(config.model)
    own = [name for name in row.fields if name not in ("dropout", "grid", "maximum_length")]
    names = [f"model.{name}" for name in (*SHAPES, *own)] + ["image.views"]
    names += ["text.context", *["text.maximum_length"] * ("maximum_length" in row.fields)]
    asked, found = config.flat(), start.config.flat()
    for name in names:
        if asked[name] != found[name]:
            advice = f"this run asks for {asked[name]!r}; add --set {name}={json.dumps(found[name])}"
            raise ConfigError(f"{bundle}: {name} is {found[name]!r} there, but {advice}")


def copy_weights(start: Captioner, model: CaptionModel) -> None:
    """Copy the weights of head and decoder; words that the captioner has not keep new ones."""
    own = start.model
    for variable, given in zip(model.weights, own.weights, strict=True):
        rows, array = ops.convert_to_numpy(given), ops.convert_to_numpy(variable).copy()
        words = own.vocabulary_size, model.vocabulary_size
        if any(pair[0] != pair[1] and pair != words for pair in zip(rows.shape, array.shape)):
            sizes = f"{given.path} of {rows.shape}, and this run of {array.shape}"
            raise ConfigError(f"the captioner to start from has {sizes}; choose a bundle of the same decoder")
        array[tuple(map(slice, rows.shape))] = rows
        variable.assign(array)


class _Material(NamedTuple):
    """What batches are made from, beside the studies, and what the decoder starts from."""

    config: Config
    encoder: Encoder
    cache: Path | None
    language: language_model.LanguageModel | None
    features: StudyFeatures | None = None
    first: Captioner | None = None

    def inputs(self, studies: Studies, training: bool = False) -> Inputs:
        config, image = self.config, self.config.image
        if not config.training.encoder_learning_rate:
            given = studies, self.encoder, config, self.cache, self.features
            return datasets.feature_inputs(encoding.study_regions(*given))
        images = targets.study_images(studies, config)
        pixels, varied = encoding.cached_pixels(images, config, self.cache), image.augment and training
        return datasets.pixel_inputs(pixels, images, image.views, image.normalisation, varied)

    def batches(self, studies: Studies, tokenizer: Any, labels: Array | None, training: bool) -> BatchDataset:
        texts, options = targets.training_texts(studies, self.config), self.config.training
        tokens = tokenizer.encode_batch(texts, self.config.text.maximum_length)
        inputs = self.inputs(studies, training)
        if told := targets.contexts(studies, self.config):
            rows = targets.context_tokens(told, tokenizer, self.config)
            inputs = datasets.with_context(inputs, rows, self.config.text.context_dropout if training else 0)
        make = datasets.caption_batch(inputs, tokens, labels if options.finding_weight else None)
        order = options.seed if training else None, datasets.caption_lengths(tokens)
        drawn = rarity(labels) if options.balanced and labels is not None else None
        return BatchDataset(make, len(studies), options.batch_size, *order, drawn)


def _trained(usable: Studies, given: _Material, run: RunFolder, split: Split) -> Captioner:
    """Fit head and decoder; what is known of the captioner is the number of its studies."""
    config, encoder, language = given.config, given.encoder, given.language
    parts = {name: usable[usable["study_id"].isin(ids)] for name, ids in split.parts.items()}
    if not len(parts["train"]):
        raise DataError("the training part of the split is empty; give more studies or fractions")
    texts, least = targets.training_texts(parts["train"], config), config.text.minimum_frequency
    known = given.first.tokenizer if given.first else language and language.tokenizer
    told = targets.contexts(parts["train"], config) or []
    if none := [kind for kind in config.text.context if not any(one[kind] for one in told)]:
        raise DataError(f"text.context: no study of the training part has a text for {none[0]}; leave it out")
    words = [*texts, *targets.context_texts(told, config)]
    tokenizer = known.extended(words, least) if known else Tokenizer.fit(words, least)
    labels = sided_labels(parts["train"]) if config.training.finding_weight or config.training.balanced else None
    data = {"train": given.batches(parts["train"], tokenizer, labels, True)}
    data["val"] = given.batches(parts["val"], tokenizer, None, False)
    captions = new_model(config, encoder, tokenizer)
    if language:
        language_model.load_language_model(captions.decoder, language)
    if given.first:
        copy_weights(given.first, captions)
    sizes = {f"{name}_studies": len(part) for name, part in parts.items()}
    captioner = Captioner(config, encoder, captions, tokenizer, sizes)
    written: list[Any] = []
    references, reward = targets.reference_texts(parts["train"], config), None
    if config.training.plain_epochs < config.training.epochs:
        reward = Reward(config.training.reward, references)
        written.append(Rewarded(captioner, parts["train"], given.inputs(parts["train"]), data["train"], reward))
    if config.training.watched != "val_loss":
        monitored, counted = monitored_studies(parts["val"], config.training.seed), counted_findings(references)
        written.append(CaptionScore(captioner, monitored, given.inputs(monitored), counted, reward))
    if len(some := monitored_studies(parts["val"], config.training.seed, SAMPLES)):
        written.append(CaptionSamples(captioner, some, given.inputs(some), run.out))
    _fit(captioner, data, run, 0 if labels is None else labels.shape[1], written)
    return captioner


def _fit(captioner: Captioner, data: Batches, run: RunFolder, findings: int, written: Sequence[Any]) -> None:
    config, encoder, captions = captioner.config, captioner.encoder, captioner.model
    options, fitted = config.training, captions
    tuned = encoder if options.encoder_learning_rate else None
    with training_scope(run.devices, "float32") as several:  # as the encoder stays
        with seeded(options.seed):  # what is drawn afterwards is the same with or without copies
            if several or options.precision != "float32":
                policy = "mixed_bfloat16" if options.precision == "bfloat16" else options.precision
                fitted = new_model(config, encoder, captioner.tokenizer, policy)
                fitted.set_weights(captions.get_weights())
            tuned = saved.copy_encoder(encoder, encoder.pool) if tuned and several else tuned
        model = teacher_forcing.TeacherForcing(fitted, options, tuned, findings)
        compile_captions(model, options, len(data["train"]), run.start)
        fit(model, data, run, options, [keras.callbacks.LambdaCallback(on_epoch_begin=model.begin_epoch), *written])
    captions.set_weights(fitted.get_weights())
    if tuned and tuned is not encoder:
        encoder.set_weights(tuned.get_weights())


def compile_captions(model: teacher_forcing.TeacherForcing, training: Any, batches: int, start: int = 0) -> None:
    """Compile a caption model in training; an encoder in it has a learning rate of its own."""
    slow = model.encoder.trainable_variables if model.encoder else []
    loss, metric = losses.WordCrossentropy(training.label_smoothing, reduction="sum"), teacher_forcing.TokenAccuracy
    compile_model(model, loss, training, batches, start, [metric("token_accuracy")], slow)


def compile_model(
    model: Any, loss: Any, training: Any, batches: int, start: int = 0, metrics: Any = (), slow: Any = ()
) -> None:
    """Compile with AdamW, an epoch of warm-up, the schedule and a bound on the gradient norm."""
    # The variables in ``slow`` are an encoder's, which has its own rate. The schedule counts batches, accumulated or
    # not, ``batches`` an epoch. It begins with epoch ``start``, or with the first where the rate is constant.
    accumulated, constant = training.accumulated_batches, training.schedule == "constant"
    start = 0 if constant else start
    highest, steps = training.learning_rate, max(training.epochs - start - 1, 1) * batches
    warm = {"warmup_target": highest, "warmup_steps": batches, "start": start * batches}
    # alpha is what the rate decays to, of the highest
    decay = teacher_forcing.WarmRestart(highest / 10, steps, alpha=float(constant), **warm)
    own = {"weight_decay": training.weight_decay, "global_clipnorm": training.clip_norm or None}
    own["gradient_accumulation_steps"] = accumulated if accumulated > 1 else None
    ratio = training.encoder_learning_rate / highest if slow else 1.0
    optimizer = teacher_forcing.TwoRates([variable.path for variable in slow], ratio, decay, **own)
    fused = "auto" if replicas() == 1 else False  # XLA has no sums over devices in a step
    model.compile(optimizer, loss, weighted_metrics=list(metrics), jit_compile=fused)
    # A step that makes the optimizer's variables itself is traced by TensorFlow twice.
    optimizer.build(model.trainable_variables)


def fit(model: Any, data: Batches, run: RunFolder, training: Any, callbacks: Sequence[Any] = ()) -> None:
    """Fit a compiled model, or go on fitting it, and leave it with its best weights."""
    # With an empty ``val`` the training loss chooses the epoch, else ``training.monitor``, which an encoder has not:
    # then the validation loss. `callbacks` are called before those of the run, all before its state is written.
    validation = data["val"] if data["val"].studies else None
    monitor = getattr(training, "watched", "val_loss") if validation else "loss"
    plain = getattr(training, "plain_epochs", 0) % training.epochs  # training does not stop before a reward
    state = run_state.RunState(run.out, data["train"], monitor, training.patience, max(run.start, plain))
    parts: list[Any] = [data["train"], validation]
    if (devices := device_count()) > 1:
        parts = [part and datasets.EvenDataset(part, devices) for part in parts]
    done = state.restore(model)
    if not state.finished and done < training.epochs:
        with ExitStack() as stack:
            told = [stack.enter_context(loggers.logging(c, run.out, run.config)) for c in run.callbacks]
            watcher = loggers.Watcher(data["train"], validation, training.precision)
            stack.callback(lambda: watcher.bar.close())
            options = {"epochs": training.epochs, "initial_epoch": done, "shuffle": False, "verbose": 0}
            options["callbacks"] = [*callbacks, watcher, *told, state]
            read, watched = [part and streamed(part) for part in parts]
            model.fit(read, validation_data=watched, **options)
    save(curves(state.history), run.out / "curves.png")
    saved.load_weights(model, run.out / run_state.BEST, "this run")
