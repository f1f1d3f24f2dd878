"""From the encoder's feature map to what a decoder reads."""

from __future__ import annotations

from typing import Any

from xray_captioning.backend import keras, ops, registered
from xray_captioning.decoders.decoder import Features


@registered
class RegionHead(keras.layers.Layer):
    """Project each region, add its learned position, normalise, apply dropout.

    The projection is shared by all regions of all views; the normalisation is over the channels of
    a region ("layer") or over the real regions of a batch ("batch").
    """

    def __init__(
        self,
        channels: int,
        normalisation: str = "layer",
        positions: bool = True,
        dropout: float = 0.2,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.channels, self.positions = channels, positions
        self.normalisation = normalisation
        dtype = self.dtype_policy
        self.project = keras.layers.Dense(channels, "relu", name="project", dtype=dtype)
        self.norm = (
            keras.layers.BatchNormalization(name="norm", dtype=dtype)
            if normalisation == "batch"
            else keras.layers.LayerNormalization(name="norm", dtype=dtype)
        )
        self.dropout = keras.layers.Dropout(dropout, dtype=dtype)

    def build(self, features_shape: Any) -> None:
        """Build from the shapes of the features, regions (batch, regions, channels) first."""
        _, regions, _ = features_shape[0]
        self.project.build(features_shape[0])
        self.norm.build((None, regions, self.channels))
        if self.positions:
            self.position = self.add_weight(
                shape=(regions, self.channels), initializer="random_normal", name="position"
            )
        self.built = True

    def call(self, features: Features, training: bool | None = None) -> Features:
        """Return features of regions (batch, regions, channels) and the same mask."""
        regions = self.project(ops.cast(features.regions, self.compute_dtype))
        if self.positions:
            regions = regions + ops.cast(self.position, regions.dtype)
        if self.normalisation == "batch":
            regions = self.norm(regions, training=training, mask=features.mask)
        else:
            regions = self.norm(regions)
        regions = ops.where(ops.cast(features.mask, "bool")[..., None], regions, 0)
        return Features(self.dropout(regions, training=training), features.mask)
