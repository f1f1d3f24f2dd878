"""Chained context aggregation over each view's feature map, then additive attention.

Shapes below: N maps (every view of every study is one), R = rows * columns regions of a map, C channels.
"""

from typing import Any

import numpy as np

from xray_captioning.backend import keras, ops, registered
from xray_captioning.decoders.decoder import Features, State
from xray_captioning.decoders.recurrent import GlobalAttention


def pooling_scales(rows: int, columns: int) -> list[int]:
    """Return the powers of two from 2 below a map's longer side; a larger one would be as the global flow."""
    return [2**power for power in range(1, (max(rows, columns) - 1).bit_length())]


def pool_and_spread(length: int, scale: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the matrices that average a line of regions into cells, and draw it again; float64. The first (cells,
    length) takes the mean of each `scale` regions, the last cell what is left over; the second (length, cells)
    interpolates between the cells' centres, constant beyond the outermost.
    """
    cell = np.arange(length) // scale
    members = (cell == np.arange(cell[-1] + 1)[:, None]).astype(float)
    pool = members / members.sum(axis=1, keepdims=True)
    centres = pool @ np.arange(length)
    spread = [np.interp(np.arange(length), centres, one) for one in np.eye(len(centres))]
    return pool, np.stack(spread, axis=1)


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
        """Build for maps (N, rows * columns, channels) of any channels."""
        self.convolution.build((None, self.rows, self.columns, maps_shape[-1]))
        self.norm.build((None, None, None, self.channels))
        self.built = True

    def call(self, maps: Any) -> Any:
        """Return maps (N, rows * columns, channels)."""
        maps = ops.reshape(maps, (-1, self.rows, self.columns, maps.shape[-1]))
        maps = ops.relu(self.norm(self.convolution(maps)))
        return ops.reshape(maps, (-1, self.rows * self.columns, self.channels))


@registered
class ContextFlow(keras.layers.Layer):
    """A shallow encoder-decoder: pool two maps into cells of `scale` regions, convolve twice, interpolate back."""

    def __init__(self, rows: int, columns: int, channels: int, scale: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rows, self.columns, self.channels, self.scale = rows, columns, channels, scale
        (down, up), (across, along) = pool_and_spread(rows, scale), pool_and_spread(columns, scale)
        # As two constant matrices these are the same on every backend, for cells of any shape.
        self.pool, self.spread = np.kron(down, across), np.kron(up, along)
        dtype = self.dtype_policy.name
        self.convolutions = [
            Convolution(len(down), len(across), channels, name=f"convolution_{i}", dtype=dtype) for i in range(2)
        ]

    def build(self, maps_shape: Any) -> None:
        for convolution, channels in zip(self.convolutions, (2 * self.channels, self.channels)):
            convolution.build((None, None, channels))
        self.built = True

    def call(self, maps: Any, previous: Any) -> Any:
        """Return this flow (N, R, C) of the feature maps and the flow before it, both (N, R, C)."""
        both = ops.concatenate([maps, previous], axis=-1)
        cells = ops.matmul(ops.cast(self.pool, both.dtype), both)
        for convolution in self.convolutions:
            cells = convolution(cells)
        return ops.matmul(ops.cast(self.spread, cells.dtype), cells)


@registered
class ContextAggregation(keras.layers.Layer):
    """Add to each region what the whole view around it shows.

    With ``X`` the feature map of one view, ``mean`` its mean over all regions, and ``[a, b]``
    channels side by side::

        F_0 = relu(W_g mean(X) + b_g)                  global flow, the same in every region
        F_i = up(conv(conv(pool_s([X, F_{i-1}]))))     context flow at scale s = 2^i (pre-fusion)
        Y   = conv(F_0 + F_1 + ... + F_n)              sum of all flows (re-fusion)
        Z   = Y + Y * sigmoid(W_s mean(Y) + b_s)       selection of channels
        out = X + g * Z

    ``pool_s`` is the average over cells of s by s regions, ``up`` bilinear interpolation,
    ``conv`` a 3x3 depthwise separable convolution, normalised, then a ReLU. The scales are
    those of :func:`pooling_scales`: 2 and 4 for 7x7 regions, none for 1x1. ``g`` is a learned
    gain of each channel, small at first, so that training begins near plain attention.

    The views share all weights and are aggregated separately; the attention joins them. The
    regions of a view the study does not have are zero and stay zero.

    The design and its terms are those of Tang et al., arXiv:2002.12041 (chained context aggregation, with
    pre-fusion, re-fusion and the attention that guides the latter), the steps those of its authors' program (CANet
    in github.com/BebDong/MXNetSeg). The selection is that of Hu et al., arXiv:1709.01507, the gain that of Touvron
    et al., arXiv:2103.17239. What differs: the normalisation is over the channels of a region, not over a batch, so
    that what a study gives does not depend on the others it is trained with; the map is added, where a segmentation
    brings fine detail back by a decoder over earlier maps; every 3x3 convolution is separable, the fusion's too;
    the number of context flows follows from the map.

    ``grid`` is the number of views, rows and columns.
    """

    def __init__(self, grid: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.grid = tuple(grid)

    def build(self, features_shape: Any) -> None:
        channels = features_shape[0][-1]
        _, rows, columns = self.grid
        maps, dtype = (None, rows * columns, channels), self.dtype_policy.name
        self.overall = keras.layers.Dense(channels, "relu", name="overall", dtype=dtype)
        self.flows = [
            ContextFlow(rows, columns, channels, scale, name=f"flow_{scale}", dtype=dtype)
            for scale in pooling_scales(rows, columns)
        ]
        self.fusion = Convolution(rows, columns, channels, name="fusion", dtype=dtype)
        self.selection = keras.layers.Dense(channels, "sigmoid", name="selection", dtype=dtype)
        for layer in (self.overall, *self.flows, self.fusion, self.selection):
            layer.build(maps)
        start = keras.initializers.Constant(0.1)
        self.gain = self.add_weight(shape=(channels,), initializer=start, name="gain")
        self.built = True

    def call(self, features: Features) -> Features:
        """Return features of the same shape and mask; a view is masked whole or not at all."""
        shape = (-1, *features.regions.shape[1:])
        mask = ops.cast(features.mask, "bool")[..., None]
        regions = ops.where(mask, ops.cast(features.regions, self.compute_dtype), 0)
        maps = ops.reshape(regions, (-1, self.grid[1] * self.grid[2], shape[-1]))
        fused = self.fusion(self._flow(maps))
        context = fused + fused * self.selection(ops.mean(fused, axis=1, keepdims=True))
        regions = regions + ops.cast(self.gain, regions.dtype) * ops.reshape(context, shape)
        return Features(ops.where(mask, regions, 0), features.mask)

    def _flow(self, maps: Any) -> Any:
        flow = self.overall(ops.mean(maps, axis=1, keepdims=True)) + ops.zeros_like(maps)
        total = flow
        for context in self.flows:
            flow = context(maps, flow)
            total = total + flow
        return total


@registered
class ContextAttention(GlobalAttention):
    """:class:`ContextAggregation` of the regions, then :class:`GlobalAttention` over them. The aggregation is part
    of ``start``, hence done once a study. ``grid`` is the number of views, rows and columns of the regions.
    """

    def __init__(self, vocabulary_size: int, grid: Any = (2, 7, 7), **kwargs: Any) -> None:
        super().__init__(vocabulary_size, **kwargs)
        self.context = ContextAggregation(grid, name="context", dtype=self.dtype_policy.name)

    def build(self, features_shape: Any, tokens_shape: Any = None) -> None:
        self.context.build(features_shape)
        super().build(features_shape, tokens_shape)

    def start(self, features: Features) -> State:
        """Return zero hidden state, the regions with their context, and their keys."""
        return super().start(self.context(features))
