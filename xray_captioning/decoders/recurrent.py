"""Decoders with one recurrent layer, and those that read the study as the mean of its regions."""

from __future__ import annotations

from typing import Any

from xray_captioning.backend import keras, ops, registered
from xray_captioning.decoders.decoder import Features, State, WordDecoder


def mean_region(features: Features, dtype: str) -> Any:
    """Return the mean of the real regions, shape (batch, channels)."""
    regions = ops.cast(features.regions, dtype)
    weights = ops.cast(features.mask, dtype)
    weights = weights / ops.maximum(ops.sum(weights, axis=1, keepdims=True), 1)
    return ops.einsum("br,brc->bc", weights, regions)


class RecurrentDecoder(WordDecoder):
    """Word vectors, a recurrent layer ``rnn``, logits; dropout on word vectors and before logits.

    A subclass defines ``start`` and may change ``inputs`` and ``merged``. Its ``names`` are those
    of the layer's states in its order; a dict's own order does not survive a compiled loop.
    """

    names: tuple[str, ...]

    def step(self, token: Any, state: State) -> tuple[Any, State]:
        """Read one token, return float32 logits and the next state."""
        states = [state[name] for name in self.names]
        hidden, states = self.rnn.cell(self.inputs(token, state), states)
        states = states if isinstance(states, (list, tuple)) else [states]
        return self.logits(self.merged(hidden, state)), {**state, **dict(zip(self.names, states))}

    def call(self, features: Features, tokens: Any, training: bool | None = None) -> Any:
        """Return logits for every position; see :meth:`Decoder.call`."""
        state = self.start(features)
        states = [state[name] for name in self.names]
        inputs = self.inputs(tokens, state, training)
        hidden = self.rnn(inputs, initial_state=states, training=training)
        return self.logits(self.dropout(self.merged(hidden, state), training=training))

    def inputs(self, tokens: Any, state: State, training: bool | None = False) -> Any:
        """Return what the layer reads of tokens (batch,) or (batch, time): their vectors."""
        return self.dropout(self.embedding(tokens), training=training)

    def merged(self, hidden: Any, state: State) -> Any:
        """Return what the logits are made of."""
        return hidden


class _Recurrent(RecurrentDecoder):
    """What the three decoders below share; see `GlobalAttention` for the parameters."""

    layer: Any = keras.layers.LSTM
    names: tuple[str, ...] = ("hidden", "cell")
    reads_image = True  # starts from the image vector and reads it beside every word

    def __init__(
        self,
        vocabulary_size: int,
        units: int = 512,
        embedding: int = 300,
        dropout: float = 0.2,
        tied_embeddings: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(vocabulary_size, **kwargs)
        self.units = units
        dtype = self.dtype_policy
        self.add_embedding(embedding)
        self.image = keras.layers.Dense(units, "relu", name="image", dtype=dtype)
        self.rnn = self.layer(units, return_sequences=True, name="rnn", dtype=dtype)
        self.add_logits(dropout, tied_embeddings)

    def build(self, features_shape: Any, tokens_shape: Any = None) -> None:
        """Build from the shapes of the features, regions (batch, regions, channels) first."""
        self.image.build((None, features_shape[0][-1]))
        width = self.embedding.output_dim + (self.units if self.reads_image else 0)
        self.rnn.build((None, None, width))
        self.build_words(self.units)

    def start(self, features: Features) -> State:
        """Return the image vector and the recurrent state."""
        image = self.image(mean_region(features, self.compute_dtype))
        states = {name: ops.zeros_like(image) for name in self.names}
        if self.reads_image:
            states["hidden"] = ops.tanh(image)
        return {"image": image, **states}

    def inputs(self, tokens: Any, state: State, training: bool | None = False) -> Any:
        """Return word vectors, and beside each the image vector if that is read."""
        words = super().inputs(tokens, state, training)
        if not self.reads_image:
            return words
        return ops.concatenate([words, _beside(words, state["image"])], axis=-1)


@registered
class LstmDecoder(_Recurrent):
    """An LSTM that starts from the image vector and reads it beside every word.

    As Vinyals et al., Show and Tell, arXiv:1411.4555; the image joins every step as in Mao et al.,
    arXiv:1412.6632.
    """


@registered
class GruDecoder(_Recurrent):
    """A GRU (Cho et al., arXiv:1406.1078) that starts from the image vector and reads it at every
    word.
    """

    layer = keras.layers.GRU
    names = ("hidden",)


@registered
class SimpleDecoder(_Recurrent):
    """An LSTM over the words alone; a dense layer before the logits joins image and words.

    This is the "merge" architecture of Tanti et al., arXiv:1708.02043.
    """

    reads_image = False

    def __init__(self, vocabulary_size: int, **kwargs: Any) -> None:
        super().__init__(vocabulary_size, **kwargs)
        self.merge = keras.layers.Dense(self.units, "relu", name="merge", dtype=self.dtype_policy)

    def build(self, features_shape: Any, tokens_shape: Any = None) -> None:
        """Build from the shapes of the features, regions (batch, regions, channels) first."""
        super().build(features_shape, tokens_shape)
        self.merge.build((None, None, self.units))

    def merged(self, hidden: Any, state: State) -> Any:
        """Join image and words."""
        return self.merge(hidden + _beside(hidden, state["image"]))


def _beside(x: Any, image: Any) -> Any:
    """The image vectors (batch, channels), once for each of the words that x may have."""
    return image if len(x.shape) == 2 else ops.repeat(image[:, None], ops.shape(x)[1], axis=1)
