"""Decoders that see the study as one vector: the mean of its regions."""

from __future__ import annotations

from typing import Any

from xray_captioning.backend import keras, ops
from xray_captioning.decoders.decoder import Decoder, Features, State
from xray_captioning.decoders.words import word_logits


def mean_region(features: Features, dtype: str) -> Any:
    """Return the mean of the real regions, shape (batch, channels)."""
    regions = ops.cast(features.regions, dtype)
    weights = ops.cast(features.mask, dtype)
    weights = weights / ops.maximum(ops.sum(weights, axis=1, keepdims=True), 1)
    return ops.einsum("br,brc->bc", weights, regions)


class _Recurrent(Decoder):
    """What the three decoders below share: word vectors, one recurrent layer, logits.

    Parameters
    ----------
    vocabulary_size, units, embedding : int
        Token ids; widths of the recurrent state and of the word vectors.
    dropout : float
        On word vectors and before the logits, in [0, 1).
    tied_embeddings : bool
        The word vectors are the weights of the logits, too.
    **kwargs
        Of :class:`keras.layers.Layer`.
    """

    layer: Any = keras.layers.LSTM
    names: tuple[str, ...] = ("hidden", "cell")  # of the recurrent layer's states, in its order

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
        self.units, self.embedding_size, self.dropout_rate = units, embedding, dropout
        self.tied_embeddings = tied_embeddings
        dtype = self.dtype_policy
        self.embedding = keras.layers.Embedding(
            vocabulary_size, embedding, name="embedding", dtype=dtype
        )
        self.image = keras.layers.Dense(units, "relu", name="image", dtype=dtype)
        self.rnn = self.layer(units, return_sequences=True, name="rnn", dtype=dtype)
        self.dropout = keras.layers.Dropout(dropout, dtype=dtype)
        self.logits = word_logits(self.embedding, tied_embeddings)

    def build(self, features_shape: Any, tokens_shape: Any = None) -> None:
        """Build from the shapes of the features, regions (batch, regions, channels) first."""
        self.embedding.build((None, None))
        self.image.build((None, features_shape[0][-1]))
        self.rnn.build((None, None, self.embedding_size + self._joined()))
        self.logits.build((None, None, self.units))
        self.built = True

    def start(self, features: Features) -> State:
        """Return the image vector and the recurrent state."""
        image = self.image(mean_region(features, self.compute_dtype))
        return {"image": image, **{name: self._first(name, image) for name in self.names}}

    def step(self, token: Any, state: State) -> tuple[Any, State]:
        """Read one token, return float32 logits and the next state."""
        image = state["image"]
        word = self._join(self.embedding(token), image)
        hidden, states = self.rnn.cell(word, [state[name] for name in self.names])
        states = states if isinstance(states, (list, tuple)) else [states]
        return self.logits(self._merge(hidden, image)), {
            "image": image,
            **dict(zip(self.names, states)),
        }

    def call(self, features: Features, tokens: Any, training: bool | None = None) -> Any:
        """Return logits for every position; see :meth:`Decoder.call`."""
        state = self.start(features)
        words = self.dropout(self.embedding(tokens), training=training)
        image = ops.repeat(state["image"][:, None], ops.shape(tokens)[1], axis=1)
        states = [state[name] for name in self.names]
        hidden = self.rnn(self._join(words, image), initial_state=states, training=training)
        return self.logits(self.dropout(self._merge(hidden, image), training=training))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "units": self.units,
            "embedding": self.embedding_size,
            "dropout": self.dropout_rate,
            "tied_embeddings": self.tied_embeddings,
        }

    def _joined(self) -> int:
        return self.units

    def _first(self, name: str, image: Any) -> Any:
        return ops.tanh(image) if name == "hidden" else ops.zeros_like(image)

    def _join(self, words: Any, image: Any) -> Any:
        return ops.concatenate([words, image], axis=-1)

    def _merge(self, hidden: Any, image: Any) -> Any:
        return hidden


class LstmDecoder(_Recurrent):
    """An LSTM that starts from the image vector and reads it beside every word.

    References
    ----------
    .. [1] Vinyals et al., Show and Tell, arXiv:1411.4555; the image joins every step as in
       Mao et al., arXiv:1412.6632.
    """


class GruDecoder(_Recurrent):
    """A GRU that starts from the image vector and reads it beside every word.

    References
    ----------
    .. [1] Cho et al., arXiv:1406.1078 (gated recurrent unit).
    """

    layer = keras.layers.GRU
    names = ("hidden",)


class SimpleDecoder(_Recurrent):
    """An LSTM over the words alone; image and words meet in a dense layer before the logits.

    References
    ----------
    .. [1] Tanti et al., arXiv:1708.02043 (the "merge" architecture).
    """

    def __init__(self, vocabulary_size: int, **kwargs: Any) -> None:
        super().__init__(vocabulary_size, **kwargs)
        self.merge = keras.layers.Dense(self.units, "relu", name="merge", dtype=self.dtype_policy)

    def build(self, features_shape: Any, tokens_shape: Any = None) -> None:
        """Build from the shapes of the features, regions (batch, regions, channels) first."""
        super().build(features_shape, tokens_shape)
        self.merge.build((None, None, self.units))

    def _joined(self) -> int:
        return 0

    def _first(self, name: str, image: Any) -> Any:
        return ops.zeros_like(image)

    def _join(self, words: Any, image: Any) -> Any:
        return words

    def _merge(self, hidden: Any, image: Any) -> Any:
        return self.merge(hidden + image)
