"""One contract over all decoders."""

import numpy as np
import pytest
from msgspec.structs import replace

from xray_captioning.backend import compiled, keras, ops
from xray_captioning.config import ModelConfig
from xray_captioning.decoders import DECODERS, CaptionModel, Features, recurrent
from xray_captioning.decoders.decoder import masked_softmax
from xray_captioning.search import Rules, beam_search
from xray_captioning.training.losses import WordCrossentropy

VOCABULARY, GRID, CHANNELS, TIME = 23, (2, 2, 3), 5, 6
REGIONS = 12
EAGERLY = keras.backend.backend() == "tensorflow"  # compiling a step takes longer than the step


TIED = [name for name, row in DECODERS.items() if "tied_embeddings" in row.fields]


def small(name, layers=2, **changes):
    sizes = {"head": 12, "units": 16, "embedding": 10, "attention": 9, "heads": 4}
    return ModelConfig(decoder=name, dropout=0.3, layers=layers, **sizes, **changes)


def build(config, **kwargs):
    keras.utils.set_random_seed(0)
    return CaptionModel(config, VOCABULARY, GRID, CHANNELS, **kwargs)


@pytest.fixture(scope="module", params=list(DECODERS))
def config(request):
    return small(request.param)


@pytest.fixture(scope="module")
def built(config):
    return build(config)


@pytest.fixture
def model(built):
    """The model with the weights it was built with, whatever a test before did to them."""
    weights = built.get_weights()
    yield built
    built.set_weights(weights)


def batch(studies=3, seed=0):
    rng = np.random.default_rng(seed)
    regions = rng.normal(size=(studies, REGIONS, CHANNELS)).astype("float32")
    mask = np.ones((studies, REGIONS), bool)
    mask[0, REGIONS // 2 :] = False
    tokens = rng.integers(1, VOCABULARY, (studies, TIME)).astype("int32")
    return {"regions": regions, "mask": mask, "tokens": tokens}


def logits(model, inputs):
    return ops.convert_to_numpy(model(inputs, training=False))


def stepped(model, inputs):
    state = model.start(Features(inputs["regions"], inputs["mask"]))
    rows = []
    for token in np.swapaxes(inputs["tokens"], 0, 1):
        row, state = model.step(ops.convert_to_tensor(token), state)
        rows.append(ops.convert_to_numpy(row))
    return np.stack(rows, axis=1)


def check_two_steps(model, other, inputs):
    few = inputs | {"tokens": inputs["tokens"][:, :2]}
    np.testing.assert_array_equal(stepped(model, few), stepped(other, few))


def test_call_equals_repeated_step(model):
    inputs = batch()
    inputs["tokens"][1, 3] = inputs["tokens"][2, 5:] = 0  # padding inside and behind
    np.testing.assert_allclose(logits(model, inputs), stepped(model, inputs), atol=1e-4)


def test_shapes_and_types(model):
    inputs = batch()
    found = model(inputs)
    assert found.shape == (3, TIME, VOCABULARY)
    assert keras.backend.standardize_dtype(found.dtype) == "float32"
    state = model.start(Features(inputs["regions"], inputs["mask"]))
    assert all(leaf.shape[0] == 3 for leaf in keras.tree.flatten(state))


def test_attention_sums_to_one_over_the_real_regions(model):
    inputs = batch()
    state = model.start(Features(inputs["regions"], inputs["mask"]))
    if "attention" not in state:
        pytest.skip("sees the study as one vector")
    _, state = model.step(ops.convert_to_tensor(inputs["tokens"][:, 0]), state)
    weights = ops.convert_to_numpy(state["attention"])
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-5)
    assert not weights[~inputs["mask"]].any()


def test_a_masked_region_changes_nothing(model):
    inputs, other = batch(), batch()
    other["regions"][~other["mask"]] = 1e3
    np.testing.assert_array_equal(logits(model, inputs), logits(model, other))


def test_a_lone_lateral_is_all_that_is_read(model):
    """Its own place is read, the frontal's is masked; a study of nothing gives finite logits."""
    inputs, other = batch(), batch()
    for given, value in ((inputs, 0.0), (other, 1e3)):
        given["mask"][:] = True
        given["mask"][0, : REGIONS // 2] = given["mask"][1] = False
        given["regions"][~given["mask"]] = value
    found = logits(model, inputs)
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found, logits(model, other))
    np.testing.assert_allclose(found, stepped(model, inputs), atol=1e-4)
    assert np.isfinite(ops.convert_to_numpy(model(inputs, training=True))).all()
    state = model.start(Features(inputs["regions"], inputs["mask"]))
    _, state = model.step(ops.convert_to_tensor(inputs["tokens"][:, 0]), state)
    if "attention" in state:
        seen = ops.convert_to_numpy(state["attention"])
        assert not seen[~inputs["mask"]].any()
        np.testing.assert_allclose(seen.sum(axis=1), [1, 0, 1], atol=1e-5)


def test_a_later_token_changes_nothing_before_it(model):
    inputs, other = batch(), batch()
    other["tokens"][:, 4:] = 0
    np.testing.assert_allclose(logits(model, inputs)[:, :4], logits(model, other)[:, :4], atol=1e-6)


def test_a_study_alone_equals_the_study_in_a_batch(model):
    inputs = batch(3)
    together = ops.convert_to_numpy(ops.log_softmax(model(inputs)))
    for i in (0, 2):
        alone = {name: value[i : i + 1] for name, value in inputs.items()}
        np.testing.assert_allclose(ops.convert_to_numpy(ops.log_softmax(model(alone)))[0], together[i], atol=1e-5)


def test_beams_that_share_a_past_find_what_beams_with_copies_find():
    model, inputs = build(small("transformer")), batch()
    rules = Rules(start_id=1, end_id=2, maximum_length=TIME)

    def hidden(token, wrapped):  # nothing that beam search knows by name, so all is copied
        found, after = model.step(token, *wrapped)
        return found, (after,)

    def search(regions, mask):
        state, real = model.start(Features(regions, mask)), ops.any(mask, axis=1)
        shared = beam_search(state, model.step, real, rules, 3, 1.0)
        return shared, beam_search((state,), hidden, real, rules, 3, 1.0)

    shared, copied = compiled(search, model)(inputs["regions"], inputs["mask"])
    np.testing.assert_array_equal(*map(ops.convert_to_numpy, (shared.tokens, copied.tokens)))
    for pair in ((shared.scores, copied.scores), (shared.gains, copied.gains)):
        np.testing.assert_allclose(*map(ops.convert_to_numpy, pair), atol=1e-5)


def test_features_matter(model):
    inputs, other = batch(), batch()
    other["regions"] = other["regions"][::-1].copy()
    assert np.abs(logits(model, inputs) - logits(model, other)).max() > 1e-3


def test_every_layer_is_made_anew_from_its_configuration(model):
    for layer in (model, *model._flatten_layers(include_self=False)):
        again = type(layer).from_config(layer.get_config())
        assert again.get_config() == layer.get_config()


def test_every_layer_model_and_loss_is_registered():
    """Keras then finds its class when it reads a file."""
    from xray_captioning.encoders import vision_transformers  # noqa: F401
    from xray_captioning.training import teacher_forcing  # noqa: F401

    kinds = [keras.Layer, keras.Loss, keras.Metric, keras.Optimizer]
    for kind in kinds:  # grows
        kinds += kind.__subclasses__()
    ours = {kind for kind in kinds if kind.__module__.startswith("xray_captioning")}
    unfit = {kind.__name__ for kind in ours if keras.saving.get_registered_name(kind).find(">") < 0}
    # Of these there are no objects.
    assert unfit == {"Decoder", "WordDecoder", "RecurrentDecoder", "_Recurrent"}


def test_a_keras_file_gives_the_same_logits_without_naming_a_class(model, tmp_path):
    model.save(tmp_path / "model.keras")
    other, inputs = keras.models.load_model(tmp_path / "model.keras"), batch()
    assert type(other) is CaptionModel
    np.testing.assert_array_equal(logits(model, inputs), logits(other, inputs))
    check_two_steps(model, other, inputs)


def test_a_clone_is_the_same_network_with_other_weights(model):
    other = keras.models.clone_model(model)
    assert other.get_config() == model.get_config()
    assert [v.shape for v in other.weights] == [v.shape for v in model.weights]
    assert np.abs(logits(model, batch()) - logits(other, batch())).max() > 1e-3


def test_saved_weights_give_the_same_logits(model, config, tmp_path):
    model.save_weights(tmp_path / "model.weights.h5")
    other = CaptionModel(config, VOCABULARY, GRID, CHANNELS)
    inputs = batch()
    assert np.abs(logits(model, inputs) - logits(other, inputs)).max() > 1e-3
    other.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(logits(model, inputs), logits(other, inputs))
    check_two_steps(model, other, inputs)


# These shift every energy alike, which no softmax sees: their gradient is rounding.
UNSEEN = ("key/bias", "energy/bias")


def compile_for(model, rate=0.02, **kwargs):
    model.compile(keras.optimizers.SGD(rate), WordCrossentropy(), **kwargs)


def check_one_step(model):
    """One step of plain gradient descent: the loss falls, and each weight moves by its gradient."""
    rate, inputs = 0.02, batch(8)
    compile_for(model, rate, run_eagerly=EAGERLY)
    targets = np.roll(inputs["tokens"], -1, axis=1)
    first = model.test_on_batch(inputs, targets)
    before = [ops.convert_to_numpy(v) for v in model.trainable_variables]
    model.train_on_batch(inputs, targets)
    model.reset_metrics()  # older Keras returns a mean that still holds the loss with dropout
    assert model.test_on_batch(inputs, targets) < first
    for variable, old in zip(model.trainable_variables, before):
        if not variable.path.endswith(UNSEEN):
            gradient = np.abs(ops.convert_to_numpy(variable) - old).max() / rate
            assert gradient > 1e-5, variable.path


def test_one_fit_step_lowers_the_loss_and_reaches_every_weight(model):
    check_one_step(model)


def test_one_fit_step_with_batch_normalisation():
    check_one_step(build(small("global_attention", normalisation="batch")))


class Stepped(CaptionModel):
    """Reads the reference word by word, as a search does: its gradients are the backend's own."""

    def call(self, inputs, training=None):
        state = self.start(Features(inputs["regions"], inputs["mask"]))
        logits = []
        for token in ops.unstack(inputs["tokens"], axis=1):
            row, state = self.step(token, state)
            logits.append(row)
        return ops.stack(logits, axis=1)


def with_padding(inputs):
    """Padding in a caption and behind it, the longest caption last; some of it has a weight."""
    tokens = inputs["tokens"].copy()
    tokens[0, 3:] = tokens[1, 2] = tokens[1, 5:] = 0
    return inputs | {"tokens": tokens}, (tokens > 0).astype("float32")


def moved(model, inputs, targets, weights):
    """What a step of gradient descent changes; training or a compiled model changes nothing."""
    before = model.get_weights()
    model.train_on_batch(inputs, targets, weights)
    return {v.path.partition("/")[2]: ops.convert_to_numpy(v) - old for v, old in zip(model.weights, before)}


# A Transformer's call is differentiated by the backend, and its step cannot be.
@pytest.mark.parametrize(
    ("name", "many"),
    [
        *((name, recurrent.MANY) for name, row in DECODERS.items() if "embedding" in row.fields),
        *((name, 0) for name, row in DECODERS.items() if "attention" in row.fields),
    ],
)
def test_gradients_are_those_of_repeated_steps(name, many, monkeypatch):
    """Also where so many regions are read that they are not projected before the loop."""
    monkeypatch.setattr(recurrent, "MANY", many)
    config = replace(small(name), dropout=0.0)
    inputs, weights = with_padding(batch())
    targets = np.roll(batch()["tokens"], -1, axis=1)
    found = []
    for kind in (CaptionModel, Stepped):
        keras.utils.set_random_seed(0)
        model = kind(config, VOCABULARY, GRID, CHANNELS)
        compile_for(model, 1.0, run_eagerly=EAGERLY)
        found.append(moved(model, inputs, targets, weights))
    for path, change in found[1].items():
        np.testing.assert_allclose(found[0][path], change, rtol=1e-4, atol=1e-6, err_msg=path)
    assert max(np.abs(change).max() for change in found[1].values()) > 0.01


@pytest.mark.parametrize("name", TIED)
def test_tied_word_vectors_serve_as_logits(name):
    config = small(name, layers=1, tied_embeddings=True)
    model, inputs = build(config), batch()
    assert (config.units, VOCABULARY) not in {tuple(v.shape) for v in model.decoder.variables}
    np.testing.assert_allclose(logits(model, inputs), stepped(model, inputs), atol=1e-4)
    before = ops.convert_to_numpy(model.decoder.embedding.embeddings)
    compile_for(model, run_eagerly=EAGERLY)
    model.train_on_batch(inputs, inputs["tokens"])
    moved = np.abs(ops.convert_to_numpy(model.decoder.embedding.embeddings) - before).max(axis=1)
    assert moved.all()  # words that were not said move, too: they were logits


def test_tied_word_vectors_go_through_a_keras_file(tmp_path):
    model, inputs = build(small("global_attention", tied_embeddings=True)), batch()
    model.save(tmp_path / "model.keras")
    other = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(logits(model, inputs), logits(other, inputs))


# A GRU has an LSTM's loop. The decoders with attention are compiled in training, with every
# option (tests/training/test_teacher_forcing.py).
@pytest.mark.skipif(keras.backend.backend() == "torch", reason="XLA is TensorFlow's and JAX's")
@pytest.mark.parametrize("name", ["lstm", "transformer"])
def test_one_fit_step_passes_under_xla(name):
    model, inputs = build(small(name, layers=1)), batch(4)
    compile_for(model, jit_compile=True)
    loss = model.train_on_batch(inputs, inputs["tokens"], np.ones((4, TIME), "float32"))
    assert np.isfinite(loss)


def test_padding_does_not_count_in_the_loss():
    model, inputs = build(small("gru")), batch(4)
    compile_for(model, run_eagerly=EAGERLY)
    targets = inputs["tokens"].copy()
    weights = np.ones((4, TIME), "float32")
    weights[:, 5:] = 0
    first = model.test_on_batch(inputs, targets, weights)
    targets[:, 5:] = 0
    assert model.test_on_batch(inputs, targets, weights) == pytest.approx(first)


def test_bfloat16_compute_keeps_float32_logits(config):
    with_policy = build(config, dtype=keras.DTypePolicy("mixed_bfloat16"))
    inputs = batch()
    found = with_policy(inputs)
    assert keras.backend.standardize_dtype(found.dtype) == "float32"
    np.testing.assert_allclose(ops.convert_to_numpy(found), stepped(with_policy, inputs), atol=0.05)


def test_masked_softmax_of_nothing_is_zero():
    weights = masked_softmax(ops.ones((2, 3)), ops.convert_to_tensor([[True, False, True]] * 2))
    np.testing.assert_allclose(weights, [[0.5, 0, 0.5]] * 2)
    nothing = masked_softmax(ops.ones((1, 3)), ops.zeros((1, 3), dtype="bool"))
    np.testing.assert_array_equal(nothing, [[0, 0, 0]])


def told(studies=3, kinds=2, words=5, seed=0):
    """Return token ids (studies, kinds, words) of texts with zeros behind them."""
    tokens = np.random.default_rng(seed).integers(1, VOCABULARY, (studies, kinds, words)).astype("int32")
    tokens[1, 0, 2:] = tokens[2, 1, 3:] = 0
    return tokens


@pytest.fixture(scope="module")
def informed(config):
    return build(config, context=2)


def test_a_context_is_read_in_call_as_in_start(informed):
    inputs = batch() | {"context": told()}
    state = informed.start(Features(inputs["regions"], inputs["mask"]), inputs["context"])
    row, _ = informed.step(ops.convert_to_tensor(inputs["tokens"][:, 0]), state)
    np.testing.assert_allclose(logits(informed, inputs)[:, 0], row, atol=1e-4)
    assert np.abs(logits(informed, batch()) - logits(informed, inputs)).max(axis=(1, 2)).min() > 1e-4


def test_an_empty_context_adds_exactly_zero_and_the_rest_of_the_model_is_as_without(config, informed):
    inputs = batch()
    empty = inputs | {"context": np.zeros_like(told())}
    np.testing.assert_array_equal(logits(informed, empty), logits(informed, inputs))
    plain = build(config)
    plain.set_weights(informed.get_weights()[: len(plain.weights)])
    np.testing.assert_array_equal(logits(plain, inputs), logits(informed, inputs))


def test_padding_and_order_of_kinds_of_context():
    model = build(small("simple"), context=2)
    longer = np.pad(told(), [(0, 0), (0, 0), (0, 4)])
    inputs = batch()
    found = [logits(model, inputs | {"context": context}) for context in (told(), longer, told()[:, ::-1])]
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)
    assert np.abs(found[0] - found[2]).max() > 1e-4  # a prior is no indication


def test_a_masked_region_stays_as_if_nothing_were_told(informed):
    inputs = batch()
    features = informed.head(Features(inputs["regions"], inputs["mask"]), training=False)
    regions = ops.convert_to_numpy(informed.informed(features, told()).regions)
    assert not regions[~inputs["mask"]].any()
    added = (regions - ops.convert_to_numpy(features.regions))[1]
    np.testing.assert_allclose(added, np.broadcast_to(added[:1], added.shape), atol=1e-6)


def test_a_model_that_reads_a_context_survives_its_config():
    model = build(small("gru"), context=1, maximum_length=9)
    again = CaptionModel.from_config(model.get_config())
    assert [w.shape for w in again.weights] == [w.shape for w in model.weights]
    old = model.get_config()
    del old["context"]  # files of before
    assert CaptionModel.from_config(old).context == 0
