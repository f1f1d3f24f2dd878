"""Decoders with one recurrent layer, which read the mean of a study's regions or attend to them."""

from typing import Any

from xray_captioning.backend import keras, ops, registered
from xray_captioning.decoders.decoder import Features, State, WordDecoder, masked_softmax


class RecurrentDecoder(WordDecoder):
    """Word vectors, a recurrent layer ``rnn``, logits; dropout on word vectors and before logits.

    A subclass defines ``start`` and may change ``inputs`` and ``merged``. Its ``names`` are those
    of the layer's states in its order; a dict's own order does not survive a compiled loop. The
    state is ``units`` wide, word vectors are ``embedding`` wide.
    """

    names: tuple[str, ...]

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
        self.add_embedding(embedding)
        self.add_layers()
        self.add_logits(dropout, tied_embeddings)

    def add_layers(self) -> None:
        """Make a subclass' own layers that are made before the logits."""

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
    """What the three decoders below share: they read the mean of a study's real regions."""

    layer: Any = keras.layers.LSTM
    names: tuple[str, ...] = ("hidden", "cell")
    reads_image = True  # starts from the image vector and reads it beside every word

    def add_layers(self) -> None:
        """Make the layers of the image vector and of the words."""
        dtype = self.dtype_policy
        self.image = keras.layers.Dense(self.units, "relu", name="image", dtype=dtype)
        self.rnn = self.layer(self.units, return_sequences=True, name="rnn", dtype=dtype)

    def build(self, features_shape: Any, tokens_shape: Any = None) -> None:
        """Build from the shapes of the features, regions (batch, regions, channels) first."""
        self.image.build((None, features_shape[0][-1]))
        width = self.embedding.output_dim + (self.units if self.reads_image else 0)
        self.rnn.build((None, None, width))
        self.build_words(self.units)

    def start(self, features: Features) -> State:
        """Return the image vector, of the mean of the real regions, and the recurrent state."""
        regions, mask = (ops.cast(part, self.compute_dtype) for part in features)
        weights = mask / ops.maximum(ops.sum(mask, axis=1, keepdims=True), 1)
        image = self.image(ops.einsum("br,brc->bc", weights, regions))
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
    """A GRU (Cho et al., arXiv:1406.1078) in the place of that LSTM."""

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


@registered
class AdditiveAttentionGRUCell(keras.layers.Layer):
    """One step: attend with the previous hidden state, then read context and word.

    The regions, their keys and their mask are part of the state, because a loop that XLA can
    compile has access to nothing else.
    """

    def __init__(
        self, units: int, attention: int, regions: int, channels: int, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.units, self.attention = units, attention
        self.regions, self.channels = regions, channels
        self.state_size = [units, (regions, channels), (regions, attention), (regions,), (regions,)]
        self.output_size = units
        dtype = self.dtype_policy
        self.key = keras.layers.Dense(attention, name="key", dtype=dtype)
        self.query = keras.layers.Dense(attention, name="query", dtype=dtype)
        self.energy = keras.layers.Dense(1, name="energy", dtype=dtype)
        self.gru = keras.layers.GRUCell(units, reset_after=True, name="gru", dtype=dtype)

    def build(self, input_shape: Any) -> None:
        """Build every sub-layer; ``input_shape`` is that of word vectors and one more column."""
        self.key.build((None, self.regions, self.channels))
        self.query.build((None, self.units))
        self.energy.build((None, self.regions, self.attention))
        self.gru.build((None, self.channels + input_shape[-1] - 1))
        self.built = True

    def call(
        self, inputs: Any, states: list[Any], training: bool | None = None
    ) -> tuple[Any, list[Any]]:
        """Read word vectors (batch, embedding + 1); return the hidden state and all states.

        The last column is 0 for padding, which is not read: the hidden state stays and zeros are
        returned, as in Keras where an embedding masks it.
        """
        hidden, regions, keys, mask, _ = states
        words, real = inputs[..., :-1], inputs[..., -1:] > 0.5
        energy = self.energy(ops.tanh(keys + self.query(hidden)[:, None, :]))[..., 0]
        weights = masked_softmax(energy, mask > 0.5)
        context = ops.einsum("br,brc->bc", ops.cast(weights, regions.dtype), regions)
        read, _ = self.gru(ops.concatenate([context, words], axis=-1), [hidden])
        states = [ops.where(real, read, hidden), regions, keys, mask]
        return ops.where(real, read, 0), [*states, ops.cast(weights, mask.dtype)]


@registered
class GlobalAttention(RecurrentDecoder):
    """Show, attend and tell over a fixed set of regions, with a GRU.

    At each step the energies of the regions are ``V tanh(W1 regions + W2 hidden)``; the context
    is their softmax-weighted mean; the GRU reads context and word vector; a dense layer gives
    the logits. Additive attention is that of Bahdanau et al., arXiv:1409.0473, section A.1.2, over
    image regions as in Xu et al., arXiv:1502.03044. ``attention`` is the width of its hidden layer.
    """

    names = ("hidden", "regions", "keys", "mask", "attention")

    def __init__(self, vocabulary_size: int, attention: int = 512, **kwargs: Any) -> None:
        super().__init__(vocabulary_size, **kwargs)
        self.attention = attention

    def build(self, features_shape: Any, tokens_shape: Any = None) -> None:
        """Build from the shapes of the features, regions (batch, regions, channels) first."""
        _, regions, channels = features_shape[0]
        sizes, dtype = (self.units, self.attention, regions, channels), self.dtype_policy.name
        self.cell = AdditiveAttentionGRUCell(*sizes, name="cell", dtype=dtype)
        self.rnn = keras.layers.RNN(self.cell, return_sequences=True, name="rnn", dtype=dtype)
        self.rnn.build((None, None, self.embedding.output_dim + 1))
        self.build_words(self.units)

    def start(self, features: Features) -> State:
        """Return zero hidden state, the regions and their keys."""
        regions, mask = (ops.cast(part, self.compute_dtype) for part in features)
        return {
            "hidden": ops.zeros((ops.shape(regions)[0], self.units), dtype=self.compute_dtype),
            "regions": regions,
            "keys": self.cell.key(regions),
            "mask": mask,
            "attention": ops.zeros_like(mask),
        }

    def inputs(self, tokens: Any, state: State, training: bool | None = False) -> Any:
        """Return what the cell reads of tokens (...): (..., embedding + 1)."""
        words = super().inputs(tokens, state, training)
        real = ops.cast(ops.not_equal(tokens, 0), words.dtype)
        return ops.concatenate([words, real[..., None]], axis=-1)
