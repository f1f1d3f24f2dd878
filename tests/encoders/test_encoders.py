"""One contract over all encoders.

A convolutional network, a Vision Transformer and a network of ``keras.applications`` go through
all of it; the others, which are of those kinds and larger, are built from the table.
"""

import numpy as np
import pytest

from xray_captioning.backend import keras, ops
from xray_captioning.captioner.captioner import Captioner
from xray_captioning.config import Config, ModelConfig
from xray_captioning.data.provenance import TrainedOn
from xray_captioning.data.splits import Split
from xray_captioning.decoders import CaptionModel
from xray_captioning.encoders import ENCODERS, Encoder, FindingModel
from xray_captioning.encoders.saved import weights_digest
from xray_captioning.encoders.torch_networks import NETWORKS
from xray_captioning.errors import ConfigError
from xray_captioning.hub.fetch import registry
from xray_captioning.training.losses import MaskedBinaryCrossentropy

SIZE = 64
WHOLE = ("phantom_cnn", "vit_tiny", "mobilenetv2")
# At 32 px: rows and columns, channels, and the parameters of the last block.
TABLE = {
    "chexnet": (1, 1, 1024, 2_129_920),
    "resnet50": (1, 1, 2048, 4_459_520),
    "resnet50v2": (1, 1, 2048, 4_458_496),
    "mobilenetv2": (1, 1, 1280, 879_040),
    "efficientnetv2b0": (1, 1, 1280, 810_288),
    "efficientnet_lite0": (1, 1, 1280, 1_009_792),
    "vit": (2, 2, 768, 7_089_408),
    "vit_tiny": (2, 2, 128, 198_528),
    "clip": (2, 2, 768, 7_089_408),
    "phantom_cnn": (2, 2, 96, 124_416),
}


@pytest.fixture(params=WHOLE, scope="module")
def encoder(request):
    keras.utils.set_random_seed(0)
    return Encoder(request.param, SIZE, findings=("Edema", "Fracture"))


def studies(count=2, views=2, seed=0):
    rng = np.random.default_rng(seed)
    grey = rng.random((count, views, SIZE, SIZE, 1), dtype=np.float32)
    return np.repeat(grey, 3, axis=-1)


def test_regions_are_laid_out_by_view_row_and_column(encoder):
    images = studies()
    features = ops.convert_to_numpy(encoder(images))
    rows, columns = encoder.grid
    assert features.shape == (2, 2 * rows * columns, encoder.channels)
    second = ops.convert_to_numpy(encoder.encode(images[:, 1]))
    np.testing.assert_allclose(features.reshape(2, 2, rows, columns, -1)[:, 1], second, rtol=1e-4, atol=1e-4)


def test_an_image_alone_equals_the_image_in_a_batch(encoder):
    images = studies(4)
    together = ops.convert_to_numpy(encoder(images))
    alone = ops.convert_to_numpy(encoder(images[2:3]))
    np.testing.assert_allclose(alone[0], together[2], rtol=1e-4, atol=1e-5)


def test_a_masked_view_changes_no_finding(encoder):
    model = FindingModel(encoder)
    images, mask = studies(), np.array([[True, False], [True, True]])
    first = ops.convert_to_numpy(model({"images": images, "mask": mask}))
    images[0, 1] = 0.5
    second = ops.convert_to_numpy(model({"images": images, "mask": mask}))
    assert first.shape == (2, 2)
    np.testing.assert_allclose(first, second, atol=1e-5)


def test_a_keras_file_gives_the_same_features_and_findings(encoder, tmp_path):
    model = FindingModel(encoder)
    model.save(tmp_path / "model.keras")
    other = keras.models.load_model(tmp_path / "model.keras")
    assert type(other.encoder) is Encoder
    assert other.encoder.findings == encoder.findings
    inputs = {"images": studies(), "mask": np.array([[True, False], [True, True]])}
    np.testing.assert_allclose(model(inputs), other(inputs), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(encoder(inputs["images"]), other.encoder(inputs["images"]))


def test_a_keras_file_says_what_its_network_was_trained_on(tmp_path):
    """Or studies that taught an encoder could test a decoder."""
    encoder = Encoder("phantom_cnn", 32)
    names = [frozenset(f"{kind}{i}" for i in range(2)) for kind in "srpi"]
    encoder.trained_on = TrainedOn(Split(("1", "2"), ("3",), ()), "digest", *names)
    captions = CaptionModel(
        ModelConfig(head=8, units=8, embedding=6, attention=5), 11, (1, *encoder.grid), encoder.channels
    )
    captioner = Captioner(Config(), encoder, captions, None)
    assert captioner.trained_on == encoder.trained_on
    FindingModel(encoder).save(tmp_path / "encoder.keras")
    captions.save(tmp_path / "captions.keras")
    other = keras.models.load_model(tmp_path / "encoder.keras").encoder
    assert other.trained_on == encoder.trained_on
    assert keras.models.load_model(tmp_path / "captions.keras").trained_on == encoder.trained_on
    taught_by = [frozenset({f"{kind}9"}) for kind in "srpi"]
    encoder.trained_on = TrainedOn(Split(("9",), ("3",), ()), "other", *taught_by)
    both = Captioner(Config(), encoder, captions, None).trained_on  # of two runs
    assert both.studies == {"s0", "s1", "s9"}
    assert both.split.train == ("1", "2")
    config = encoder.get_config()
    del config["trained_on"]  # as an earlier version wrote it
    assert Encoder.from_config(config).trained_on is None


def test_a_clone_is_the_same_network_with_other_weights(encoder):
    other = keras.models.clone_model(encoder)
    assert other.get_config() == encoder.get_config()
    assert [v.shape for v in other.weights] == [v.shape for v in encoder.weights]
    assert weights_digest(other) != weights_digest(encoder)


def test_weights_round_trip(encoder, tmp_path):
    encoder.save_weights(tmp_path / "encoder.weights.h5")
    other = Encoder(encoder.name_of_backbone, SIZE, findings=encoder.findings)
    assert weights_digest(other) != weights_digest(encoder)
    other.load_weights(tmp_path / "encoder.weights.h5")
    assert weights_digest(other) == weights_digest(encoder)
    np.testing.assert_array_equal(encoder(studies()), other(studies()))


def test_config_round_trip(encoder):
    again = Encoder.from_config(encoder.get_config())
    assert again.get_config() == encoder.get_config()
    assert [v.shape for v in again.variables] == [v.shape for v in encoder.variables]


def test_pooling_averages_neighbouring_regions(encoder):
    rows, columns = encoder.grid
    if rows < 2:
        pytest.skip("a map of one row cannot be pooled")
    pooled = Encoder(encoder.name_of_backbone, SIZE, pool=2, findings=encoder.findings)
    pooled.set_weights(encoder.get_weights())
    fine = ops.convert_to_numpy(encoder.encode(studies()[:, 0]))
    coarse = ops.convert_to_numpy(pooled.encode(studies()[:, 0]))
    assert pooled.grid == (rows // 2, columns // 2)
    np.testing.assert_allclose(coarse[:, 0, 0], fine[:, :2, :2].mean(axis=(1, 2)), atol=1e-5)


def copied(encoder):
    other = Encoder(encoder.name_of_backbone, SIZE, findings=encoder.findings)
    other.set_weights(encoder.get_weights())
    return other


def fit(encoder, epochs=1):
    """Return the losses of a few steps, and the paths of the weights that have moved."""
    model = FindingModel(encoder)
    # Eagerly: compiling a step takes longer than all the steps.
    loss = MaskedBinaryCrossentropy([1.0, 1.0])
    model.compile(keras.optimizers.Adam(1e-4), loss, run_eagerly=True)
    inputs = {"images": studies(4), "mask": np.ones((4, 2), bool)}
    labels = np.array([[1, 0], [0, 1], [1, np.nan], [0, 0]], "float32")
    before = [ops.convert_to_numpy(v) for v in encoder.variables]
    losses = model.fit(inputs, labels, epochs=epochs, verbose=0).history["loss"]
    after = [ops.convert_to_numpy(v) for v in encoder.variables]
    return losses, {v.path for v, a, b in zip(encoder.variables, before, after) if (a != b).any()}


def test_training_lowers_the_loss_and_moves_every_weight(encoder):
    other = copied(encoder)
    losses, moved = fit(other, epochs=2)
    assert losses[-1] < losses[0]
    assert {v.path for v in other.trainable_variables} <= moved


def test_the_last_block_alone_is_fine_tuned(encoder):
    other = copied(encoder)
    other.unfreeze_last_block()
    # Batch statistics stay, so the encoder in training is the encoder that was frozen.
    np.testing.assert_allclose(other(studies(), training=True), encoder(studies()), atol=1e-5)
    _, moved = fit(other)
    assert moved == {v.path for v in other.trainable_variables}
    other.unfreeze_last_block()
    assert moved == {v.path for v in other.trainable_variables}


@pytest.mark.parametrize("name", TABLE)
def test_the_table_builds_and_knows_its_last_block(name):
    if name == "clip":
        pytest.importorskip("keras_hub", reason="CLIP is built by keras-hub")
    rows, columns, channels, last_block = TABLE[name]
    encoder = Encoder(name, 32)
    assert (encoder.grid, encoder.channels) == ((rows, columns), channels)
    encoder.unfreeze_last_block()
    assert sum(np.prod(v.shape) for v in encoder.trainable_variables) == last_block


def test_every_row_of_the_table_is_tested():
    others = {name for name, one in registry().items() if one.tower or one.network in NETWORKS}
    assert set(ENCODERS) - others == {*TABLE, "densenet121"}
    assert ENCODERS["densenet121"] == ENCODERS["chexnet"]


def test_an_encoder_without_a_last_block_says_so(monkeypatch):
    whole = ENCODERS["phantom_cnn"]._replace(last_block=("conv9_",))
    monkeypatch.setitem(ENCODERS, "phantom_cnn", whole)
    with pytest.raises(ConfigError, match="phantom_cnn has no last block to train; leave"):
        Encoder("phantom_cnn", SIZE).unfreeze_last_block()


def test_an_unknown_encoder_and_a_pool_too_wide_are_refused():
    with pytest.raises(ConfigError, match="unknown encoder 'vgg'; encoders are chexnet"):
        Encoder("vgg", SIZE)
    with pytest.raises(ConfigError, match="weights are 'coco'"):
        Encoder("phantom_cnn", SIZE, weights="coco")
    with pytest.raises(ConfigError, match=r"model\.pool is 9 but the feature map"):
        Encoder("phantom_cnn", SIZE, pool=9)


def test_images_too_small_for_a_network_are_refused():
    with pytest.raises(ConfigError, match="chexnet cannot be built for images of 16 px"):
        Encoder("chexnet", 16)


def test_published_weights_that_cannot_be_had_are_not_replaced(monkeypatch):
    def offline(size, published):
        if published:
            raise OSError("no network")
        return row.build(size, published)

    row = ENCODERS["mobilenetv2"]
    monkeypatch.setitem(ENCODERS, "mobilenetv2", row._replace(build=offline))
    with pytest.raises(ConfigError, match=r"mobilenetv2 cannot be had \(no network\).*random"):
        Encoder("mobilenetv2", SIZE, weights="imagenet")
    with pytest.raises(ConfigError, match="cannot be built for images of 7 px"):
        Encoder("mobilenetv2", 7, weights="imagenet")
    with pytest.raises(ConfigError, match=r"phantom_cnn has no published weights.*random"):
        Encoder("phantom_cnn", SIZE, weights="imagenet")


def test_the_loss_ignores_unknown_labels_and_equals_weighted_cross_entropy():
    loss = MaskedBinaryCrossentropy([3.0, 1.0])
    truth = np.array([[1, np.nan], [0, 1]], "float32")
    scores = np.array([[0.3, 9.0], [-0.7, 1.2]], "float32")
    p = 1 / (1 + np.exp(-scores.astype("float64")))
    first = -3 * np.log(p[0, 0]) / 2
    second = (-np.log(1 - p[1, 0]) - np.log(p[1, 1])) / 2
    assert float(loss(truth, scores)) == pytest.approx((first + second) / 2, rel=1e-5)
