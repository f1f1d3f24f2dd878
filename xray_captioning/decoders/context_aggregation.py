"""Chained context aggregation; in shapes, N are maps (each view of each study is one), R their regions, C channels."""

from typing import Any

import numpy as np

from xray_captioning.backend import keras, ops, registered
from xray_captioning.decoders.decoder import Features, State
from xray_captioning.decoders.recurrent import GlobalAttention


def pooling_scales(rows: int, columns: int) -> list[int]:
    """Return the powers of two from 2 below a map's longer side; a larger one would be as the global flow."""
    return [2**power for power in range(1, (max(rows, columns) - 1).bit_length())]


def pool_and_spread(length: int, scale: int) -> tuple[np.ndarray, np.ndarray]:
    """Return matrices, float64: (cells, length) takes the mean of each `scale` regions, the last cell what is left
    over; (length, cells) interpolates between the cells' centres, constant beyond the outermost.
    """
    cell = np.arange(length) // scale
    members = (cell == np.arange(cell[-1] + 1)[:, None]).astype(float)
    pool = members / members.sum(axis=1, keepdims=True)
    centres = pool @ np.arange(length)
    return pool, np.stack([np.interp(np.arange(length), centres, one) for one in np.eye(len(centres))], axis=1)


@registered
class Convolution(keras.layers.Layer):
    """``relu(norm(conv3x3(maps)))``, the convolution depthwise separable and zero-padded."""

    def __init__(self, rows: int, columns: int, channels: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rows, self.columns, self.channels = rows, columns, channels
        kind = {"padding": "same", "data_format": "channels_last", "dtype": self.dtype_policy}
        self.convolution = keras.layers.SeparableConv2D(channels, 3, name="convolution", **kind)
        self.norm = keras.layers.LayerNormalization(name="norm", dtype=self.dtype_policy)

    def build(self, maps_shape: Any) -> None:
        self.convolution.build((None, self.rows, self.columns, maps_shape[-1]))
        self.norm.build((None, None, None, self.channels))

    def call(self, maps: Any) -> Any:
        maps = ops.reshape(maps, (-1, self.rows, self.columns, maps.shape[-1]))
        maps = ops.relu(self.norm(self.convolution(maps)))
        return ops.reshape(maps, (-1, self.rows * self.columns, self.channels))


@registered
class ContextFlow(keras.layers.Layer):
    """A shallow encoder-decoder: pool two maps into cells of `scale` regions, convolve twice, refine, interpolate."""

    def __init__(self, rows: int, columns: int, channels: int, scale: int, refined: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rows, self.columns, self.channels = rows, columns, channels
        self.scale, self.refined, dtype = scale, refined, self.dtype_policy.name
        (down, up), (across, along) = pool_and_spread(rows, scale), pool_and_spread(columns, scale)
        # As two constant matrices these are the same on every backend, for cells of any shape.
        self.pool, self.spread = np.kron(down, across), np.kron(up, along)
        self.convolutions = [
            Convolution(len(down), len(across), channels, name=f"convolution_{i}", dtype=dtype) for i in range(2)
        ]
        kinds = ("relu", "sigmoid") if refined else ()
        self.refinement = [keras.layers.Dense(channels, kind, name=f"refinement_{kind}", dtype=dtype) for kind in kinds]

    def build(self, maps_shape: Any) -> None:
        for i, layer in enumerate([*self.convolutions, *self.refinement]):
            layer.build((None, None, self.channels if i else 2 * self.channels))

    def call(self, maps: Any, previous: Any) -> Any:
        """Return this flow (N, R, C) of the feature maps and the flow before it, both (N, R, C)."""
        both = ops.concatenate([maps, previous], axis=-1)
        cells = ops.matmul(ops.cast(self.pool, both.dtype), both)
        for convolution in self.convolutions:
            cells = convolution(cells)
        if self.refined:
            cells = cells + cells * self.refinement[1](self.refinement[0](cells))
        return ops.matmul(ops.cast(self.spread, cells.dtype), cells)


@registered
class ContextAggregation(keras.layers.Layer):
    """Add to each region what the whole view around it shows; ``grid`` is the number of views, rows and columns.

    With ``X`` the feature map of one view, ``mean`` its mean over all regions, and ``[a, b]`` channels side by side::

        F_0 = W_g relu(norm(mean(X))) + b_g                    global flow, the same in every region
        F_i = up(refine(conv(conv(pool_s([X, F_{i-1}])))))     context flow at scale s = 2^i
        Y   = conv(F_0 + F_1 + ... + F_n)                      sum of all flows
        Z   = Y * sigmoid(norm(W_s mean(Y) + b_s))             selection of channels
        out = X + g * Z

    ``pool_s`` is the average over cells of s by s regions, ``up`` bilinear interpolation, ``conv`` a 3x3 depthwise
    separable convolution, normalised, then a ReLU, ``refine(x)`` is ``x + x * sigmoid(W_2 relu(W_1 x + b_1) + b_2)``.
    The scales are those of :func:`pooling_scales`. ``g`` is a learned gain of each channel, small at first, so that
    training begins near plain attention. Where `refined` is False, as in models of before, nothing is refined, ``F_0``
    is ``relu(W_g mean(X) + b_g)``, and ``Z`` is ``Y + Y * sigmoid(W_s mean(Y) + b_s)``. The views share all weights and
    are aggregated separately; the attention joins them. A missing view stays zero.

    Chained flows over a global one are those of Tang et al., arXiv:2002.12041, in the steps that Keras projects build
    of its third version: fusion and refinement in each flow, then selection. The gain is that of Touvron et al.,
    arXiv:2103.17239. What differs: every 3x3 convolution is separable, since whole ones of 512 channels would have 16
    million weights in place of 2; the normalisation is over the channels of a region, not over a batch, so that what a
    study gives does not depend on the others it is trained with; the map is added; the number of flows follows from the
    map.
    """

    def __init__(self, grid: Any, refined: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.grid, self.refined = tuple(grid), refined

    def build(self, features_shape: Any) -> None:
        channels = features_shape[0][-1]
        _, rows, columns = self.grid
        maps, dtype = (None, rows * columns, channels), self.dtype_policy.name
        self.overall = keras.layers.Dense(channels, name="overall", dtype=dtype)
        self.flows = [
            ContextFlow(rows, columns, channels, scale, self.refined, name=f"flow_{scale}", dtype=dtype)
            for scale in pooling_scales(rows, columns)
        ]
        self.fusion = Convolution(rows, columns, channels, name="fusion", dtype=dtype)
        self.selection = keras.layers.Dense(channels, name="selection", dtype=dtype)
        names = ("norm_overall", "norm_selection") if self.refined else ()
        self.norms = [keras.layers.LayerNormalization(name=name, dtype=dtype) for name in names]
        for layer in (self.overall, *self.flows, self.fusion, self.selection, *self.norms):
            layer.build(maps)
        self.gain = self.add_weight(shape=(channels,), initializer=keras.initializers.Constant(0.1), name="gain")

    def call(self, features: Features) -> Features:
        """Return features of the same shape and mask; a view is masked whole or not at all."""
        shape = (-1, *features.regions.shape[1:])
        mask = ops.cast(features.mask, "bool")[..., None]
        regions = ops.where(mask, ops.cast(features.regions, self.compute_dtype), 0)
        fused = self.fusion(self._flow(ops.reshape(regions, (-1, self.grid[1] * self.grid[2], shape[-1]))))
        weights = self.selection(ops.mean(fused, axis=1, keepdims=True))
        context = fused * ops.sigmoid(self.norms[1](weights) if self.refined else weights)
        context = context if self.refined else fused + context
        regions = regions + ops.cast(self.gain, regions.dtype) * ops.reshape(context, shape)
        return Features(ops.where(mask, regions, 0), features.mask)

    def _flow(self, maps: Any) -> Any:
        mean = ops.mean(maps, axis=1, keepdims=True)
        mean = self.overall(ops.relu(self.norms[0](mean))) if self.refined else ops.relu(self.overall(mean))
        total = flow = mean + ops.zeros_like(maps)
        for context in self.flows:
            flow = context(maps, flow)
            total = total + flow
        return total


@registered
class ChainedContext(GlobalAttention):
    """:class:`GlobalAttention` to what :class:`ContextAggregation` makes once a study; `grid`: views, rows, columns."""

    refined = True

    def __init__(self, vocabulary_size: int, grid: Any = (2, 7, 7), **kwargs: Any) -> None:
        super().__init__(vocabulary_size, **kwargs)
        self.context = ContextAggregation(grid, self.refined, name="context", dtype=self.dtype_policy.name)

    def build(self, features_shape: Any, tokens_shape: Any = None) -> None:
        self.context.build(features_shape)
        super().build(features_shape, tokens_shape)

    def start(self, features: Features) -> State:
        return super().start(self.context(features))


@registered
class ContextAttention(ChainedContext):
    """The same with the aggregation of models of before, which go on loading: without refinement."""

    refined = False
