"""One contract over all encoders."""

import numpy as np
import pytest

from xray_captioning.backend import keras, ops
from xray_captioning.encoders import ENCODERS, Encoder, FindingModel
from xray_captioning.encoders.saved import weights_digest
from xray_captioning.errors import ConfigError
from xray_captioning.losses import MaskedBinaryCrossentropy

SIZE = 64


@pytest.fixture(params=list(ENCODERS), scope="module")
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
    np.testing.assert_allclose(
        features.reshape(2, 2, rows, columns, -1)[:, 1], second, rtol=1e-4, atol=1e-4
    )


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


def test_weights_round_trip(encoder, tmp_path):
    encoder.save_weights(tmp_path / "encoder.weights.h5")
    other = Encoder(encoder.name_of_backbone, SIZE, findings=encoder.findings)
    assert weights_digest(other) != weights_digest(encoder)
    other.load_weights(tmp_path / "encoder.weights.h5")
    assert weights_digest(other) == weights_digest(encoder)
    np.testing.assert_array_equal(encoder(studies()), other(studies()))


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


def test_training_lowers_the_loss_and_moves_every_weight(encoder):
    model = FindingModel(Encoder(encoder.name_of_backbone, SIZE, findings=encoder.findings))
    # Eagerly: to compile a step of DenseNet121 takes longer than all the others together.
    loss = MaskedBinaryCrossentropy([1.0, 1.0])
    model.compile(keras.optimizers.Adam(1e-3), loss, run_eagerly=True)
    inputs = {"images": studies(4), "mask": np.ones((4, 2), bool)}
    labels = np.array([[1, 0], [0, 1], [1, np.nan], [0, 0]], "float32")
    before = [ops.convert_to_numpy(v) for v in model.trainable_variables]
    losses = model.fit(inputs, labels, epochs=3, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    for variable, old in zip(model.trainable_variables, before):
        assert np.abs(ops.convert_to_numpy(variable) - old).max() > 0, variable.path


def test_an_unknown_encoder_and_a_pool_too_wide_are_refused():
    with pytest.raises(ConfigError, match="unknown encoder 'vgg'; encoders are chexnet"):
        Encoder("vgg", SIZE)
    with pytest.raises(ConfigError, match=r"model\.pool is 9 but the feature map"):
        Encoder("phantom_cnn", SIZE, pool=9)


def test_random_weights_are_announced_where_imagenet_cannot_be_had(monkeypatch):
    def offline(*args, **kwargs):
        raise OSError("no network")

    backbone = ENCODERS["chexnet"]._replace(imagenet=offline)
    monkeypatch.setitem(ENCODERS, "chexnet", backbone)
    with pytest.warns(UserWarning, match="starts from random weights"):
        Encoder("chexnet", SIZE, weights="imagenet")


def test_the_loss_ignores_unknown_labels_and_equals_weighted_cross_entropy():
    loss = MaskedBinaryCrossentropy([3.0, 1.0])
    truth = np.array([[1, np.nan], [0, 1]], "float32")
    scores = np.array([[0.3, 9.0], [-0.7, 1.2]], "float32")
    p = 1 / (1 + np.exp(-scores.astype("float64")))
    first = -3 * np.log(p[0, 0]) / 3
    second = (-np.log(1 - p[1, 0]) - np.log(p[1, 1])) / 2
    assert float(loss(truth, scores)) == pytest.approx((first + second) / 2, rel=1e-5)
