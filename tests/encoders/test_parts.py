"""A network cut in two, and one whose parts are computed again on the way back."""

from functools import cache

import numpy as np
import pytest

from xray_captioning.backend import keras, seeded
from xray_captioning.encoders import ENCODERS, Encoder, FindingModel
from xray_captioning.encoders.parts import checkpointed, cut
from xray_captioning.errors import ConfigError

IMAGES = np.random.default_rng(0).random((4, 2, 32, 32, 3), np.float32)
MASK = np.array([[True, True], [True, False], [True, True], [True, True]])
LABELS = np.random.default_rng(1).integers(0, 2, (4, 2)).astype("float32")


@cache
def densenet():
    return Encoder("chexnet", 32)


@pytest.mark.parametrize(
    ("network", "first"),
    [("chexnet", "conv5_"), ("phantom_cnn", "block1_"), ("efficientnet_lite0", "blocks.15."), ("vit_tiny", "block2_")],
)
def test_the_parts_together_are_the_network(network, first):
    encoder = densenet() if network == "chexnet" else Encoder(network, 32)
    lower, upper = cut(encoder, first)
    expected, found = encoder.backbone(IMAGES[:, 0]), upper(lower(IMAGES[:, 0]))
    np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, (found, expected)))
    own = {id(variable) for variable in encoder.backbone.variables}
    assert {id(variable) for variable in [*lower.variables, *upper.variables]} == own
    lower.trainable = False
    assert all(layer.trainable == (layer not in lower.layers) for layer in upper.layers[1:])
    assert encoder.backbone.trainable_variables


@pytest.mark.parametrize("first", ["input", "stem1_convolution", "block2_2_norm", "unheard of"])
def test_what_cannot_be_cut_is_said(first):
    with pytest.raises(ConfigError, match=f"phantom_cnn cannot be cut before {first!r}.* such as block2_"):
        cut(Encoder("phantom_cnn", 32), first)


class Own(keras.Model):
    """A network that is no graph of layers."""

    output_shape = (None, 28, 28, 2)

    def __init__(self):
        super().__init__()
        self.convolution = keras.layers.Conv2D(2, 5, name="block1")
        self.norm = keras.layers.BatchNormalization()

    def call(self, x, training=False):
        return self.norm(self.convolution(x), training=training)


def test_a_network_that_is_no_graph_is_trained_but_has_no_parts(monkeypatch):
    row = ENCODERS["phantom_cnn"]._replace(build=lambda size, published: Own(), last_block=())
    monkeypatch.setitem(ENCODERS, "own", row)
    assert np.isfinite(fitted("own")[0]).all()
    with pytest.raises(ConfigError, match="own cannot be cut before 'block1'; name the first layer of a block"):
        cut(Encoder("own", 32), "block1")
    with pytest.raises(ConfigError, match=r"own\S* has no parts .* encoder_training.checkpointing"):
        fitted("own", checkpointing=True)


def fitted(network, **how):
    """Return losses and weights of three steps, with another learning rate than any default."""
    with seeded(0):
        encoder = Encoder(network, 32, findings=["Edema", "Fracture"])
    model = FindingModel(encoder, **how)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss, jit_compile=keras.backend.backend() == "jax")
    losses = [model.train_on_batch({"images": IMAGES, "mask": MASK}, LABELS) for _ in range(3)]
    return losses, encoder.get_weights()


@pytest.mark.parametrize("keep_statistics", [False, True])
def test_checkpointing_changes_neither_losses_nor_statistics(keep_statistics):
    losses, weights = fitted("phantom_cnn", keep_statistics=keep_statistics)
    again, others = fitted("phantom_cnn", keep_statistics=keep_statistics, checkpointing=True)
    np.testing.assert_allclose(again, losses, rtol=1e-5)
    for a, b in zip(weights, others, strict=True):
        np.testing.assert_allclose(b, a, atol=1e-5)


def test_parts_are_as_many_as_their_steps():
    network, parts = densenet().backbone, []
    checkpointed(network, parts.append)
    assert len(parts) == pytest.approx(len(network.layers) ** 0.5, rel=0.1)
    assert sum(len(part.layers) - 1 for part in parts) == len(network.layers) - 1
