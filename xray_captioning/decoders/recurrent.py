"""Decoders with one recurrent layer, which read the mean of a study's regions or attend to them."""

from typing import Any

from xray_captioning.backend import keras, ops, registered
from xray_captioning.decoders.decoder import Features, State, WordDecoder, masked_softmax
from xray_captioning.decoders.recurrence import AttentiveGru, Gru, Lstm, Words, multiply, recurrence

MANY = 64  # regions; fewer are projected before the loop, which spares it a product a step


class RecurrentDecoder(WordDecoder):
    """Word vectors, `embedding` wide, a recurrent layer ``rnn`` of `units`, logits; dropout before and after it. A
    subclass defines ``start``, ``read`` for a word, which returns what it says and what changes, and ``read_all`` for
    the rows of captions, float32; it may change ``merged``.
    """

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
        hidden, changed = self.read(token, self.embedding(token), state)
        return self.logits(self.merged(hidden, state.get("image"))), {**state, **changed}

    def hidden(self, features: Features, tokens: Any, training: bool | None, packed: bool = False) -> Any:
        """Return what the logits are made of, (batch, time, units), or packed rows of it."""
        words = Words(tokens, packed)
        state = keras.tree.map_structure(words.sorted, self.start(features))
        tokens = words.rows(words.sorted(tokens))
        vectors = self.dropout(self.embedding(tokens), training=training)
        hidden = self.read_all(words, tokens, self.wide(vectors), state)
        hidden = ops.cast(hidden, self.compute_dtype)
        if "image" in state:
            hidden = self.merged(hidden, words.beside(state["image"]))
        hidden = self.dropout(hidden, training=training)
        return hidden if packed else ops.swapaxes(hidden, 0, 1)

    def wide(self, x: Any) -> Any:
        """Return x as `float32`, or wider; in less, a loop would add up what it rounds."""
        return ops.cast(x, keras.backend.result_type(self.compute_dtype, "float32"))

    def merged(self, hidden: Any, image: Any) -> Any:
        return hidden


class _Recurrent(RecurrentDecoder):
    """What the three decoders below share: they read the mean of a study's real regions."""

    layer: Any = keras.layers.LSTM
    loop: type = Lstm
    names: tuple[str, ...] = ("hidden", "cell")
    reads_image = True  # starts from the image vector and reads it beside every word

    def add_layers(self) -> None:
        dtype = self.dtype_policy
        self.image = keras.layers.Dense(self.units, "relu", name="image", dtype=dtype)
        self.rnn = self.layer(self.units, return_sequences=True, name="rnn", dtype=dtype)

    def build(self, features_shape: Any, tokens_shape: Any = None) -> None:
        self.image.build((None, features_shape[0][-1]))
        self.rnn.build((None, None, self.embedding.output_dim + (self.units if self.reads_image else 0)))
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

    def read(self, token: Any, vector: Any, state: State) -> tuple[Any, State]:
        """Read a word, and the image vector beside it if that is read."""
        both = [vector, state["image"]] if self.reads_image else [vector]
        states = [state[name] for name in self.names]
        hidden, states = self.rnn.cell(ops.concatenate(both, axis=-1), states)
        return hidden, dict(zip(self.names, states))

    def read_all(self, words: Words, tokens: Any, vectors: Any, state: State) -> Any:
        cell, wide = self.rnn.cell, self.wide
        kernel, of_image = ops.split(cell.kernel, [vectors.shape[-1]], axis=0)
        x, bias = multiply(vectors, kernel), cell.bias
        if self.reads_image:
            x = x + words.beside(multiply(wide(state["image"]), of_image))
        if self.loop is Gru:
            first, bias = bias[0], bias[1]
            x = x + wide(first)
        states = [wide(state[name]) for name in self.names]
        return recurrence(self.loop, words, x, states, cell.recurrent_kernel, wide(bias))


@registered
class LstmDecoder(_Recurrent):
    """An LSTM that starts from the image vector (arXiv:1411.4555) and reads it beside every word (arXiv:1412.6632)."""


@registered
class GruDecoder(_Recurrent):
    """A GRU (Cho et al., arXiv:1406.1078) in the place of that LSTM."""

    layer, loop = keras.layers.GRU, Gru
    names = ("hidden",)


@registered
class SimpleDecoder(_Recurrent):
    """An LSTM over words; a dense layer before the logits joins the image (the "merge" of arXiv:1708.02043)."""

    reads_image = False

    def __init__(self, vocabulary_size: int, **kwargs: Any) -> None:
        super().__init__(vocabulary_size, **kwargs)
        self.merge = keras.layers.Dense(self.units, "relu", name="merge", dtype=self.dtype_policy)

    def build(self, features_shape: Any, tokens_shape: Any = None) -> None:
        super().build(features_shape, tokens_shape)
        self.merge.build((None, None, self.units))

    def merged(self, hidden: Any, image: Any) -> Any:
        return self.merge(hidden + image)


@registered
class AdditiveAttentionGRUCell(keras.layers.Layer):
    """One step: attend with the previous hidden state, then read context and word."""

    def __init__(self, units: int, attention: int, regions: int, channels: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units, self.attention = units, attention
        self.regions, self.channels = regions, channels
        dtype = self.dtype_policy
        self.key = keras.layers.Dense(attention, name="key", dtype=dtype)
        self.query = keras.layers.Dense(attention, name="query", dtype=dtype)
        self.energy = keras.layers.Dense(1, name="energy", dtype=dtype)
        self.gru = keras.layers.GRUCell(units, reset_after=True, name="gru", dtype=dtype)

    def build(self, input_shape: Any) -> None:
        self.key.build((None, self.regions, self.channels))
        self.query.build((None, self.units))
        self.energy.build((None, self.regions, self.attention))
        self.gru.build((None, self.channels + input_shape[-1]))

    def call(self, words: Any, hidden: Any, regions: Any, keys: Any, mask: Any) -> Any:
        """Read vectors (batch, embedding), a study's captions side by side; return hidden state and weights."""
        query = ops.reshape(self.query(hidden), (ops.shape(keys)[0], -1, 1, self.attention))
        energy = ops.matmul(ops.tanh(ops.expand_dims(keys, 1) + query), self.energy.kernel)[..., 0] + self.energy.bias
        weights = masked_softmax(energy, ops.expand_dims(mask, 1) > 0.5)
        # No einsum: exported, it would turn the regions round at each step.
        context = ops.matmul(ops.cast(weights, regions.dtype), regions)
        context, weights = (ops.reshape(x, (-1, x.shape[-1])) for x in (context, weights))
        return self.gru(ops.concatenate([context, words], axis=-1), [hidden])[0], weights


@registered
class GlobalAttention(RecurrentDecoder):
    """Attention over a fixed set of regions (arXiv:1502.03044), and a GRU that reads its context and a word vector. The
    energies of the regions are ``V tanh(W1 regions + W2 hidden)`` (Bahdanau et al., arXiv:1409.0473, section A.1.2),
    the context is their softmax-weighted mean; ``attention`` is the width of the hidden layer.
    """

    def __init__(self, vocabulary_size: int, attention: int = 512, **kwargs: Any) -> None:
        super().__init__(vocabulary_size, **kwargs)
        self.attention = attention

    def build(self, features_shape: Any, tokens_shape: Any = None) -> None:
        _, regions, channels = features_shape[0]
        sizes, dtype = (self.units, self.attention, regions, channels), self.dtype_policy.name
        self.cell = AdditiveAttentionGRUCell(*sizes, name="cell", dtype=dtype)
        self.cell.build((None, self.embedding.output_dim))
        self.build_words(self.units)

    def start(self, features: Features) -> State:
        """Return zero hidden state, and of the study its regions and their keys."""
        regions, mask = (ops.cast(part, self.compute_dtype) for part in features)
        return {
            "hidden": ops.zeros((ops.shape(regions)[0], self.units), dtype=self.compute_dtype),
            "study": {"regions": regions, "keys": self.cell.key(regions), "mask": mask},
            "attention": ops.zeros_like(mask),
        }

    def read(self, token: Any, vector: Any, state: State) -> tuple[Any, State]:
        """Read one word. Padding is not read: the state stays, and zeros are returned."""
        before, real = state["hidden"], ops.not_equal(token, 0)[:, None]
        read, weights = self.cell(vector, before, *(state["study"][name] for name in ("regions", "keys", "mask")))
        hidden = ops.where(real, read, before)
        return ops.where(real, read, 0), {"hidden": hidden, "attention": ops.cast(weights, state["attention"].dtype)}

    def read_all(self, words: Words, tokens: Any, vectors: Any, state: State) -> Any:
        cell, gru, wide = self.cell, self.cell.gru, self.wide
        regions, keys, mask = (wide(state["study"][name]) for name in ("regions", "keys", "mask"))
        of_regions, of_words = ops.split(gru.kernel, [regions.shape[-1]], axis=0)
        real = wide(ops.not_equal(tokens, 0))[..., None]
        many = regions.shape[1] > MANY
        # An update gate that is wide open lets nothing of padding into the state.
        shut = 1e4 * wide(ops.arange(3 * self.units) < self.units)
        x = multiply(vectors, of_words) + wide(gru.bias[0]) + (1 - real) * shut
        kernel = ops.concatenate([gru.recurrent_kernel, cell.query.kernel], axis=1)
        bias = wide(ops.concatenate([gru.bias[1], cell.query.bias]))
        # A softmax does not see this bias, but its gradient, nought, has to exist.
        energy = wide(cell.energy.kernel) + 0 * wide(cell.energy.bias)
        seen = [regions, mask, energy, of_regions] if many else [multiply(regions, of_regions), mask, energy]
        return recurrence(AttentiveGru, words, x, [wide(state["hidden"])], kernel, bias, keys, *seen) * real
