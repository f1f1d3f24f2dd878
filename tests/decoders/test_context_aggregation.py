"""The chained context aggregation against its equations, and what flows where."""

import math

import numpy as np
import pytest

from xray_captioning.backend import keras, ops
from xray_captioning.config import load_preset
from xray_captioning.decoders import DECODERS, Features
from xray_captioning.decoders.context_aggregation import (
    ChainedContext,
    ContextAggregation,
    ContextAttention,
    pool_and_spread,
    pooling_scales,
)

CHANNELS = 4


def layer_for(grid, refined=True):
    """Return a built layer, every weight of it random."""
    keras.utils.set_random_seed(0)
    layer = ContextAggregation(grid, refined)
    layer.build(Features((None, math.prod(grid), CHANNELS), (None, math.prod(grid))))
    rng = np.random.default_rng(1)
    for variable in layer.weights:
        variable.assign(rng.normal(size=variable.shape, scale=0.5))
    return layer


def features_for(grid, studies=2, seed=0):
    shape = (studies, math.prod(grid), CHANNELS)
    regions = np.random.default_rng(seed).normal(size=shape).astype("float32")
    return Features(regions, np.ones(shape[:2], bool))


def aggregated(layer, features):
    return ops.convert_to_numpy(layer(features).regions)


# The equations once more, with loops and without matrices.


def relu(x):
    return np.maximum(x, 0)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def dense(layer, vector):
    kernel, bias = (ops.convert_to_numpy(w) for w in layer.weights)
    return vector @ kernel + bias


def normalised(vector, scale=1, shift=0):
    return (vector - vector.mean()) / np.sqrt(vector.var() + 1e-3) * scale + shift


def norm(layer, vector):
    return normalised(vector, *(ops.convert_to_numpy(w) for w in layer.weights))


def convolved(layer, image):
    depthwise, pointwise, bias, scale, shift = (ops.convert_to_numpy(w) for w in layer.weights)
    rows, columns, channels = image.shape
    out = np.zeros((rows, columns, pointwise.shape[-1]))
    for y, x in np.ndindex(rows, columns):
        filtered = np.zeros(channels)
        for dy, dx in np.ndindex(3, 3):
            v, u = y + dy - 1, x + dx - 1
            if 0 <= v < rows and 0 <= u < columns:
                filtered += image[v, u] * depthwise[dy, dx, :, 0]
        vector = filtered @ pointwise[0, 0] + bias
        out[y, x] = relu(normalised(vector, scale, shift))
    return out


def spans(length, scale):
    return [range(i, min(i + scale, length)) for i in range(0, length, scale)]


def between(position, centres):
    """Return pairs of a cell and its weight at a position."""
    if position <= centres[0]:
        return [(0, 1.0)]
    if position >= centres[-1]:
        return [(len(centres) - 1, 1.0)]
    right = next(i for i, centre in enumerate(centres) if centre > position)
    share = (position - centres[right - 1]) / (centres[right] - centres[right - 1])
    return [(right - 1, 1 - share), (right, share)]


def context_flow(layer, image, previous):
    both = np.concatenate([image, previous], axis=-1)
    across, down = (spans(n, layer.scale) for n in image.shape[1::-1])
    cells = np.array([[both[np.ix_(v, u)].mean(axis=(0, 1)) for u in across] for v in down])
    for convolution in layer.convolutions:
        cells = convolved(convolution, cells)
    if layer.refined:
        inner, outer = layer.refinement
        cells = cells + cells * sigmoid(dense(outer, relu(dense(inner, cells))))
    out = np.zeros((*image.shape[:2], cells.shape[-1]))
    for y, x in np.ndindex(*image.shape[:2]):
        for i, weight in between(y, [np.mean(v) for v in down]):
            for j, other in between(x, [np.mean(u) for u in across]):
                out[y, x] += weight * other * cells[i, j]
    return out


def expected(layer, image):
    mean = image.mean(axis=(0, 1))
    mean = dense(layer.overall, relu(norm(layer.norms[0], mean))) if layer.refined else relu(dense(layer.overall, mean))
    total = flow = np.broadcast_to(mean, image.shape)
    for context in layer.flows:
        flow = context_flow(context, image, flow)
        total = total + flow
    fused = convolved(layer.fusion, total)
    weights = dense(layer.selection, fused.mean(axis=(0, 1)))
    weights = sigmoid(norm(layer.norms[1], weights)) if layer.refined else 1 + sigmoid(weights)
    return image + ops.convert_to_numpy(layer.gain) * fused * weights


@pytest.mark.parametrize("refined", [True, False])
@pytest.mark.parametrize("grid", [(2, 5, 3), (1, 1, 1), (1, 2, 9)])
def test_equals_its_equations(grid, refined):
    layer, features = layer_for(grid, refined), features_for(grid, studies=1)
    maps = features.regions.reshape(*grid, CHANNELS).astype("float64")
    wanted = np.stack([expected(layer, image) for image in maps]).reshape(1, -1, CHANNELS)
    np.testing.assert_allclose(aggregated(layer, features), wanted, atol=2e-5)


@pytest.mark.parametrize(
    ("rows", "columns", "scales"),
    [(1, 1, []), (2, 2, []), (3, 3, [2]), (7, 7, [2, 4]), (14, 14, [2, 4, 8]), (1, 9, [2, 4, 8])],
)
def test_scales_follow_from_the_map(rows, columns, scales):
    assert pooling_scales(rows, columns) == scales


@pytest.mark.parametrize(("length", "scale"), [(7, 2), (14, 8), (1, 2), (3, 4)])
def test_pooling_and_spreading_keep_a_constant(length, scale):
    pool, spread = pool_and_spread(length, scale)
    assert len(pool) == math.ceil(length / scale)
    np.testing.assert_allclose(spread @ pool @ np.ones(length), 1)


def test_a_line_survives_pooling_between_the_outer_centres():
    pool, spread = pool_and_spread(8, 2)
    found = spread @ pool @ np.arange(8.0)
    np.testing.assert_allclose(found, [0.5, 1, 2, 3, 4, 5, 6, 6.5])


def test_a_region_reaches_its_whole_view_and_nothing_else():
    grid = (2, 3, 7)
    layer, features = layer_for(grid), features_for(grid)
    other = features.regions.copy()
    other[0, 0] += 1
    change = np.abs(aggregated(layer, features) - aggregated(layer, Features(other, features.mask)))
    change = change.reshape(2, *grid, CHANNELS).max(axis=-1)
    assert (change[0, 0] > 1e-6).all()
    assert not change[0, 1].any()
    assert not change[1].any()


def test_a_view_is_read_alike_wherever_it_stands():
    layer, features = layer_for((2, 3, 2)), features_for((2, 3, 2))
    swapped = Features(np.roll(features.regions, 6, axis=1), features.mask)
    found = np.roll(aggregated(layer, swapped), 6, axis=1)
    np.testing.assert_allclose(aggregated(layer, features), found, atol=1e-6)


def test_a_masked_view_stays_zero_and_changes_nothing():
    grid = (2, 3, 2)
    layer, features = layer_for(grid), features_for(grid)
    features.mask[0, 6:] = False
    other = features.regions.copy()
    other[0, 6:] = 1e3
    found = aggregated(layer, features)
    assert not found[0, 6:].any()
    assert np.abs(found[0, :6]).min() > 0
    np.testing.assert_array_equal(found, aggregated(layer, Features(other, features.mask)))
    alone = ContextAggregation((1, 3, 2))
    alone.build(Features((None, 6, CHANNELS), (None, 6)))
    alone.set_weights(layer.get_weights())
    one = Features(features.regions[:, :6], features.mask[:, :6])
    np.testing.assert_allclose(aggregated(alone, one), found[:, :6], atol=1e-6)


def test_models_of_before_have_the_weights_that_they_had():
    """By name and in this order, as their files have them."""
    found = [weight.path.partition("/")[2] for weight in layer_for((2, 3, 3), refined=False).weights]
    norm = ("gamma", "beta")
    convolution = ("convolution/depthwise_kernel", "convolution/pointwise_kernel", "convolution/bias")
    each = [*convolution, *(f"norm/{one}" for one in norm)]
    flow = [f"flow_2/convolution_{i}/{one}" for i in (0, 1) for one in each]
    dense = [[f"{layer}/{one}" for one in ("kernel", "bias")] for layer in ("overall", "selection")]
    assert sorted(found) == sorted(["gain", *dense[0], *flow, *(f"fusion/{one}" for one in each), *dense[1]])
    assert issubclass(ContextAttention, ChainedContext)
    assert DECODERS["context_aggregation"].kind(5, (1, 1, 1)).context.refined is False
    assert load_preset("chexnet_context").model.decoder == "chained_context"
    assert DECODERS["chained_context"].kind(5, (1, 1, 1)).context.refined


@pytest.mark.parametrize("kind", [ChainedContext, ContextAttention])
def test_the_decoder_aggregates_once_and_attends_to_every_region(kind):
    keras.utils.set_random_seed(0)
    grid = (2, 1, 3)
    features = features_for(grid)
    decoder = kind(11, grid, units=6, embedding=5, attention=4)
    decoder.build(Features((None, 6, CHANNELS), (None, 6)))
    state = decoder.start(features)
    regions = ops.convert_to_numpy(state["study"]["regions"])
    np.testing.assert_allclose(regions, aggregated(decoder.context, features), atol=1e-6)
    _, after = decoder.step(ops.convert_to_tensor([3, 4]), state)
    assert after["attention"].shape == (2, 6)
    assert after["study"] is state["study"]


def test_config_round_trip():
    layer = layer_for((2, 7, 3))
    for part in (layer, layer.flows[0], layer.fusion):
        assert type(part).from_config(part.get_config()).get_config() == part.get_config()
