"""A network whose normalisations are fused is the same network."""

import numpy as np
import pytest

from xray_captioning.backend import keras
from xray_captioning.encoders import Encoder, FindingModel
from xray_captioning.encoders.parts import lean

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="only TensorFlow has these steps")
layers = keras.layers


def network():
    """Every kind of layer behind a normalisation: one read twice, one called twice, one a result."""
    image, shared = layers.Input((12, 12, 3)), layers.ReLU()
    x = layers.Conv2D(4, 3, use_bias=False)(image)
    x = layers.ReLU()(layers.BatchNormalization(momentum=0.8)(x))
    y = layers.Conv2D(6, 3, 2, padding="same", use_bias=False)(x)  # x is read twice
    z = layers.AveragePooling2D(2)(x)
    y = layers.Activation("relu")(layers.BatchNormalization(scale=False, epsilon=1e-5)(y))
    y = layers.Concatenate()([layers.Conv2D(5, 1, use_bias=False)(y), z])
    y = layers.ReLU(max_value=6)(layers.BatchNormalization()(y))
    y = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(3, 3, dilation_rate=1)(y)))
    y = layers.Conv2D(3, 2)(y)  # with a bias
    y = shared(layers.BatchNormalization()(shared(layers.BatchNormalization()(y))) - 0.5)
    y = layers.Dense(2)(layers.BatchNormalization()(layers.Flatten()(y)))
    y = layers.Reshape((1, 1, 2))(y)
    return keras.Model(image, layers.BatchNormalization()(y))


def learned(model, variables, training, start):
    """Return outputs, gradients and statistics of one step, in the numbers of `start`."""
    import tensorflow as tf

    for variable, value in zip(variables, start):
        variable.assign(value)
    x = np.random.default_rng(0).random((4, 12, 12, 3), np.float32)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            y = tf.cast(model(x, training=training), "float32")
            loss = tf.reduce_sum(y**3)
        own = [v.value for v in model.trainable_variables]
        return y, *tape.gradient(loss, own)

    return [np.asarray(part) for part in (*step(), *model.non_trainable_variables)]


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """Let the operations keep the inverse of the deviation, not the variance, from one for the other."""
    import tensorflow as tf

    raw = tf.raw_ops
    forward, back = raw.FusedBatchNormV3, raw.FusedBatchNormGradV3

    def kept(epsilon, is_training, **given):
        y, mean, variance, one, two, three = forward(epsilon=epsilon, is_training=is_training, **given)
        return y, mean, variance, one, tf.math.rsqrt(two + epsilon) if is_training else two, three

    def read(epsilon, is_training, reserve_space_2, **given):
        two = reserve_space_2**-2 - epsilon if is_training else reserve_space_2
        return back(epsilon=epsilon, is_training=is_training, reserve_space_2=two, **given)

    monkeypatch.setattr(raw, "FusedBatchNormV3", kept)
    monkeypatch.setattr(raw, "FusedBatchNormGradV3", read)


def test_what_a_gpu_keeps_is_not_taken_for_a_variance(as_on_a_gpu):
    test_outputs_gradients_and_statistics_are_those_of_keras(True, "float32", 1e-3)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("policy", "tolerance"), [("float32", 1e-4), ("mixed_bfloat16", 0.15)])
def test_outputs_gradients_and_statistics_are_those_of_keras(training, policy, tolerance):
    keras.utils.set_random_seed(0)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = network()
    finally:
        keras.config.set_dtype_policy(before)
    short, start = lean(model), [np.asarray(v) + 0.1 for v in model.variables]
    assert {id(v) for v in short.variables} == {id(v) for v in model.variables}
    assert len(short.layers) == len(model.layers) - 4
    expected, found = (learned(m, model.variables, training, start) for m in (model, short))
    for a, b in zip(expected, found, strict=True):
        assert np.linalg.norm(a - b) <= tolerance * np.linalg.norm(a) + 1e-4


def test_a_network_can_be_made_lean_again():
    model = network()
    first = lean(model)
    assert len(lean(model).layers) == len(first.layers)


def operations(model, training):
    import tensorflow as tf

    inputs = {"images": tf.zeros((2, 1, 32, 32, 3)), "mask": tf.ones((2, 1), "bool")}
    graph = tf.function(lambda: model(inputs, training=training)).get_concrete_function().graph
    return [operation.type for operation in graph.get_operations()]


@pytest.mark.parametrize(("keep_statistics", "checkpointing"), [(True, False), (False, False), (False, True)])
def test_a_finding_model_is_trained_so(keep_statistics, checkpointing):
    model = FindingModel(Encoder("phantom_cnn", 32, findings=["Edema"]), keep_statistics, checkpointing)
    assert "FusedBatchNormV3" not in operations(model, True)
    model.compile("sgd", "mse", jit_compile=False)
    assert "FusedBatchNormV3" in operations(model, True)
    assert "FusedBatchNormV3" not in operations(model, False)
    model.compile("sgd", "mse", jit_compile=True)  # XLA fuses by itself
    assert "FusedBatchNormV3" not in operations(model, True)
