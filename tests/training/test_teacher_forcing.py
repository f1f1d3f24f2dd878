"""What is added to teacher forcing does what it says, and nothing when it is off."""

import numpy as np
import pytest
from msgspec.structs import replace

from xray_captioning.backend import keras, ops
from xray_captioning.config import CaptionTrainingConfig, ModelConfig
from xray_captioning.data.datasets import BatchDataset, caption_batch
from xray_captioning.decoders import DECODERS, CaptionModel, recurrent
from xray_captioning.encoders import Encoder
from xray_captioning.training.captions import compile_captions
from xray_captioning.training.losses import WordCrossentropy
from xray_captioning.training.teacher_forcing import TeacherForcing, TokenAccuracy, TwoRates

EAGERLY = keras.backend.backend() == "tensorflow"  # compiling a step takes longer than the step
OPTIONS = CaptionTrainingConfig(epochs=3)
SMALL = ModelConfig(head=8, units=8, embedding=6, attention=5, dropout=0.0)


@pytest.fixture
def captions():
    keras.utils.set_random_seed(0)
    return CaptionModel(SMALL, 11, (1, 2, 2), 5)


def batch(studies=4):
    rng = np.random.default_rng(0)
    return {
        "regions": rng.normal(size=(studies, 4, 5)).astype("float32"),
        "mask": np.ones((studies, 4), bool),
        "tokens": rng.integers(1, 11, (studies, 6)).astype("int32"),
        "findings": np.array([[1, 0], [0, np.nan]] * (studies // 2), "float32"),
    }


def logits(model, training):
    return ops.convert_to_numpy(model(batch(), training=training))


def test_without_options_it_is_the_caption_model(captions):
    model = TeacherForcing(captions, OPTIONS)
    np.testing.assert_array_equal(logits(model, True), captions(batch(), training=True))
    assert not model.losses


@pytest.mark.parametrize(("name", "many"), [*((name, 64) for name in DECODERS), ("global_attention", 0)])
def test_words_without_their_padding_give_the_same_step(name, many, monkeypatch):
    """Loss, accuracy and gradients are those of all places of the batch, also out of order."""
    monkeypatch.setattr(recurrent, "MANY", many)
    inputs = batch()
    inputs["tokens"][0, 3:] = inputs["tokens"][1, 2] = inputs["tokens"][1, 5:] = 0
    targets = np.roll(batch()["tokens"], -1, axis=1)
    weights, found = (inputs["tokens"] > 0).astype("float32"), []
    for kind in (TeacherForcing, Padded):
        keras.utils.set_random_seed(0)
        config = replace(SMALL, decoder=name, heads=2)
        model = kind(CaptionModel(config, 11, (1, 2, 2), 5), OPTIONS)
        loss, metrics = WordCrossentropy(0.1), [TokenAccuracy("token_accuracy")]
        rate = keras.optimizers.SGD(1.0)
        model.compile(rate, loss, weighted_metrics=metrics, run_eagerly=EAGERLY)
        before = model.get_weights()
        logs = model.train_on_batch(inputs, targets, weights, return_dict=True)
        found.append((logs, [new - old for new, old in zip(model.get_weights(), before)]))
    (logs, changes), (expected, others) = found
    assert logs == pytest.approx(expected, rel=1e-5)
    for change, other in zip(changes, others):
        np.testing.assert_allclose(change, other, rtol=1e-4, atol=1e-6)


@pytest.mark.skipif(not EAGERLY, reason="shapes that depend on values are TensorFlow's")
def test_what_follows_a_caption_costs_no_logits(captions):
    inputs, model = batch(), TeacherForcing(captions, OPTIONS)
    inputs["tokens"][0, 3:] = inputs["tokens"][1, 2] = inputs["tokens"][1, 5:] = 0
    compile_captions(model, OPTIONS, 1)
    assert model(inputs, training=True).shape == (3 + 5 + 6 + 6, 11)
    assert model(inputs, training=False).shape == (4, 6, 11)  # as a user sees them


class Padded(TeacherForcing):
    """Computes what follows padding, too."""

    def call(self, inputs, training=None):
        return self.captions(inputs, training=training)


def varied_captions(studies=70):
    """Return tokens (studies, 18) of captions of one to sixteen words."""
    rng = np.random.default_rng(0)
    words = rng.integers(1, 11, (studies, 18))
    return words * (np.arange(18) < rng.integers(2, 18, (studies, 1)))


class Bigrams(TeacherForcing):
    """Logits of the next word from the present one alone, which takes no time."""

    def call(self, inputs, training=None):
        return ops.take(self.captions.decoder.logits.kernel, inputs["tokens"] % 8, axis=0)


@pytest.mark.parametrize("compiled", [{"run_eagerly": True}, {"jit_compile": True}])
def test_the_loss_of_an_epoch_is_the_mean_over_its_words_in_batches_of_any_size(captions, compiled):
    """Early stopping and the choice of the best epoch do not depend on it; nor does accuracy."""
    tokens, loss = varied_captions(), WordCrossentropy(0.1)
    model = Bigrams(captions, OPTIONS)
    model.compile("sgd", loss, weighted_metrics=[TokenAccuracy("token_accuracy")], **compiled)
    targets = np.pad(tokens[:, 1:], [(0, 0), (0, 1)])
    logits, words = ops.convert_to_numpy(model({"tokens": tokens})), targets > 0
    expected = {
        "loss": pytest.approx(float(loss(targets, logits, words)), rel=1e-5),
        "token_accuracy": pytest.approx((logits.argmax(-1) == targets)[words].mean(), rel=1e-5),
    }
    for size in (1, 64):  # the last batch of 64 has six captions
        make = caption_batch(lambda numbers, rng: {}, tokens)
        data = BatchDataset(make, len(tokens), size)
        assert model.evaluate(data, verbose=0, return_dict=True) == expected, size


def test_the_finding_loss_counts_in_training_only(captions):
    model = TeacherForcing(captions, replace(OPTIONS, finding_weight=2.0), findings=2)
    model.compile("sgd", WordCrossentropy(), run_eagerly=EAGERLY)
    inputs = batch()
    targets, ones = inputs["tokens"], np.ones((4, 6), "float32")
    plain = TeacherForcing(captions, OPTIONS)
    plain.compile("sgd", WordCrossentropy(), run_eagerly=EAGERLY)
    expected = plain.test_on_batch(inputs, targets, ones)
    assert model.test_on_batch(inputs, targets, ones) == pytest.approx(expected, rel=1e-5)
    assert model.train_on_batch(inputs, targets, ones) > expected + 0.1


def test_the_finding_loss_falls_and_teaches_the_head(captions):
    model = TeacherForcing(captions, replace(OPTIONS, finding_weight=1.0), findings=2)
    inputs = batch()

    def loss():
        model(inputs, training=True)
        return float(model.losses[0])

    before, kernel = loss(), ops.convert_to_numpy(captions.head.project.kernel)
    model.compile(keras.optimizers.Adam(0.03), WordCrossentropy(), run_eagerly=EAGERLY)
    none = np.zeros((4, 6), "float32")  # no word counts: what changes comes from the findings
    for _ in range(8):
        model.train_on_batch(inputs, inputs["tokens"], none)
    assert loss() < before * 0.8
    assert np.abs(ops.convert_to_numpy(captions.head.project.kernel) - kernel).max() > 0


def test_sampled_words_are_the_models_own_and_the_first_token_stays(captions):
    model = TeacherForcing(captions, replace(OPTIONS, scheduled_sampling=0.9))
    inputs = batch()
    features = captions.head(model.features(inputs))
    tokens = ops.convert_to_tensor(inputs["tokens"])
    np.testing.assert_array_equal(model._sampled(features, tokens), inputs["tokens"])
    model.share.assign(1.0)
    (bias,) = [v for v in captions.trainable_variables if v.path.endswith("logits/bias")]
    bias.assign(np.eye(1, bias.shape[0])[0] * 100)  # it would say padding, which is no word
    logits = ops.convert_to_numpy(captions(inputs))
    said = 1 + np.argmax(logits[..., 1:], axis=-1)
    found = ops.convert_to_numpy(model._sampled(features, tokens))
    np.testing.assert_array_equal(found[:, 0], inputs["tokens"][:, 0])
    np.testing.assert_array_equal(found[:, 1:], said[:, :-1])
    padded = ops.convert_to_tensor(np.pad(inputs["tokens"][:, :3], [(0, 0), (0, 3)]))
    assert not ops.convert_to_numpy(model._sampled(features, padded))[:, 3:].any()


def test_the_share_of_sampled_words_rises_over_the_epochs(captions):
    options = replace(OPTIONS, scheduled_sampling=0.5)
    model = TeacherForcing(captions, options)
    shares = []
    for epoch in range(3):
        model.begin_epoch(epoch)
        shares.append(float(model.share))
    assert shares == [0, 0.25, 0.5]


def test_one_step_with_every_option_passes_under_xla():
    config = replace(SMALL, decoder="context_aggregation")  # has all of the global attention, too
    captions = CaptionModel(config, 11, (1, 2, 2), 5)
    changes = {"finding_weight": 1.0, "label_smoothing": 0.1, "scheduled_sampling": 0.5}
    options = replace(OPTIONS, accumulated_batches=2, **changes)
    model = TeacherForcing(captions, options, findings=2)
    compile_captions(model, options, 5)
    model.jit_compile = True
    inputs = batch()
    loss = model.train_on_batch(inputs, inputs["tokens"], np.ones((4, 6), "float32"))
    assert np.isfinite(loss).all()


def test_slow_variables_move_at_their_own_rate_and_do_not_decay():
    fast, slow = (keras.Variable(np.ones(3, "float32"), name=f"{n}_kernel") for n in "ab")
    optimizer = TwoRates([slow.path], 0.01, 0.1, weight_decay=0.5)
    optimizer.apply([ops.ones(3), ops.ones(3)], [fast, slow])
    np.testing.assert_allclose(1 - ops.convert_to_numpy(slow), 0.001, rtol=1e-3)
    np.testing.assert_allclose(1 - ops.convert_to_numpy(fast), 0.1 + 0.05, rtol=1e-2)


def decayed(variables):
    """Return the paths of those that weight decay alone changes: all gradients are zero."""
    optimizer = TwoRates([], 1.0, 0.1, weight_decay=0.5)
    optimizer.build(variables)
    before = [1 + ops.convert_to_numpy(v) for v in variables]
    for variable, value in zip(variables, before):
        variable.assign(value)  # zeros would decay unseen
    optimizer.apply([ops.zeros(v.shape) for v in variables])
    after = map(ops.convert_to_numpy, variables)
    return {v.path for v, old, new in zip(variables, before, after) if (old != new).any()}


@pytest.mark.parametrize("decoder", ["context_aggregation", "gpt2"])
def test_weight_decay_reaches_kernels_only(decoder):
    """Neither biases, nor gains of normalisations, nor the vectors of words and positions."""
    config = replace(SMALL, decoder=decoder, heads=2, layers=1)
    variables = CaptionModel(config, 11, (1, 2, 2), 5).trainable_variables
    expected = {v.path for v in variables if "kernel" in v.path.split("/")[-1]}
    kept = {v.path.split("/")[-1] for v in variables} - {p.split("/")[-1] for p in expected}
    assert {"bias", "gamma", "beta", "position", "embeddings"} <= kept
    assert decayed(variables) == expected


def test_weight_decay_leaves_the_tokens_of_a_vision_transformer():
    encoder = Encoder("vit_tiny", 32)
    found = {path.split("/")[-1] for path in decayed(encoder.trainable_variables)}
    assert found == {"kernel"}


def test_fine_tuning_moves_the_last_block_only():
    keras.utils.set_random_seed(0)
    encoder = Encoder("phantom_cnn", 32)
    captions = CaptionModel(SMALL, 11, (2, *encoder.grid), encoder.channels)
    options = replace(OPTIONS, encoder_learning_rate=1e-3)
    model = TeacherForcing(captions, options, encoder)
    compile_captions(model, options, 1)
    model.run_eagerly = EAGERLY
    before = [ops.convert_to_numpy(v) for v in encoder.variables]
    inputs = {
        "images": np.random.default_rng(0).random((4, 2, 32, 32, 3), np.float32),
        "mask": np.array([[True, True], [True, False]] * 2),
        "tokens": batch()["tokens"],
    }
    model.train_on_batch(inputs, inputs["tokens"], np.ones((4, 6), "float32"))
    moved = {v.path for v, old in zip(encoder.variables, before) if np.abs(ops.convert_to_numpy(v) - old).max() > 0}
    assert moved == {v.path for v in encoder.trainable_variables}
    assert 0 < len(moved) < len(before) / 2


def moved(weights, model, batches):
    """Return how the weights move when a model is trained on batches."""
    model.captions.set_weights(weights)
    for inputs, targets, counts in batches:
        model.train_on_batch(inputs, targets, counts)
    found = model.captions.get_weights()
    return np.concatenate([(new - old).ravel() for new, old in zip(found, weights)])


def accumulating(captions, steps):
    options = replace(OPTIONS, accumulated_batches=steps, learning_rate=1.0)
    model = TeacherForcing(captions, options)
    compile_captions(model, options, 10**6)  # so that the rate hardly rises from batch to batch
    # Adam's first step is a sign, which hides what the gradient was; this one is nearly linear.
    model.optimizer.epsilon = 1.0
    model.run_eagerly = True
    return model


def halves(counts):
    inputs = batch()
    for part in (slice(0, 2), slice(2, 4)):
        some = {name: values[part] for name, values in inputs.items()}
        yield some, some["tokens"], counts[part]


def test_a_compiled_model_in_training_goes_through_a_keras_file(tmp_path):
    """Losses, both rates and the state of the optimizer come back."""
    options = replace(OPTIONS, finding_weight=1.0, encoder_learning_rate=1e-4, weight_decay=0.1)
    encoder = Encoder("phantom_cnn", 32)
    captions = CaptionModel(SMALL, 11, (2, *encoder.grid), encoder.channels)
    model = TeacherForcing(captions, options, encoder, findings=2)
    compile_captions(model, options, 5)
    model.optimizer.apply([ops.ones(v.shape) for v in model.trainable_variables])
    model.save(tmp_path / "model.keras")
    other = keras.models.load_model(tmp_path / "model.keras")
    assert other.get_config() == model.get_config()
    assert other.optimizer.get_config() == model.optimizer.get_config()
    assert other.optimizer.rates == model.optimizer.rates
    assert other.loss.get_config() == model.loss.get_config()
    pairs = zip(model.weights, other.weights, strict=True)
    states = zip(model.optimizer.variables, other.optimizer.variables, strict=True)
    for one, again in (*pairs, *states):
        np.testing.assert_array_equal(*map(ops.convert_to_numpy, (one, again)))


def test_two_half_batches_move_the_weights_as_the_whole_batch(captions):
    weights, ones = captions.get_weights(), np.ones((4, 6), "float32")
    whole = [(batch(), batch()["tokens"], ones)]
    expected = moved(weights, accumulating(captions, 1), whole)
    found = moved(weights, accumulating(captions, 2), halves(ones))
    assert np.abs(expected).max() > 1e-6
    np.testing.assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max())
    first = moved(weights, accumulating(captions, 2), list(halves(ones))[:1])
    assert not first.any()  # a single half does not move them


def test_accumulated_batches_count_alike_however_many_words_they_have(captions):
    """A word of a batch with few words counts more: the one way in which accumulation differs."""
    weights, counts = captions.get_weights(), np.ones((4, 6), "float32")
    counts[:2, 1:] = 0  # the first half has a sixth of the second half's words
    whole = [(batch(), batch()["tokens"], counts)]
    together = moved(weights, accumulating(captions, 1), whole)
    evened = counts * np.array([[6.0], [6.0], [1.0], [1.0]], "float32")
    alike = moved(weights, accumulating(captions, 1), [(batch(), batch()["tokens"], evened)])
    found = moved(weights, accumulating(captions, 2), halves(counts))
    scale = np.abs(alike).max()
    np.testing.assert_allclose(found, alike, atol=1e-3 * scale)
    assert np.abs(found - together).max() > 1e-2 * scale


@pytest.mark.parametrize("many", [64, 0])
def test_bfloat16_stays_near_float32_and_keeps_float32_weights(captions, many, monkeypatch):
    """Logits within 1 % of the largest, and a gradient of nearly the same direction."""
    monkeypatch.setattr(recurrent, "MANY", many)
    near = CaptionModel(SMALL, 11, (1, 2, 2), 5, dtype="mixed_bfloat16")
    weights = captions.get_weights()
    near.set_weights(weights)
    assert {variable.dtype for variable in near.trainable_variables} == {"float32"}
    exact, rounded = (ops.convert_to_numpy(model(batch())) for model in (captions, near))
    assert rounded.dtype == np.float32
    np.testing.assert_allclose(rounded, exact, atol=0.01 * np.abs(exact).max())
    ones = np.ones((4, 6), "float32")
    whole = [(batch(), batch()["tokens"], ones)]
    one, other = (moved(weights, accumulating(model, 1), whole) for model in (captions, near))
    assert one @ other > 0.99 * np.linalg.norm(one) * np.linalg.norm(other)
