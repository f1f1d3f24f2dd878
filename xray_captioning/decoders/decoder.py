"""The interface of every decoder, the features it reads, and its first and last layers."""

from __future__ import annotations

from typing import Any

from xray_captioning.backend import keras, ops, registered
from xray_captioning.data.features import Features as Features

State = Any  # nested tensors; every leaf has a leading batch axis, so that search can reorder it


class Decoder(keras.layers.Layer):
    """Features and tokens in, logits out.

    A subclass defines ``start``, ``step`` and ``call``, and ``call`` must equal repeated ``step``. What does not change
    while decoding is computed in ``start``. Search calls ``start`` and ``step`` directly, without ``__call__``: a
    decoder therefore casts its inputs itself, and builds its sub-layers in ``build``, which is given the shapes of the
    features, regions (batch, regions, channels) first, and of the tokens. Keras writes the constructor's arguments into
    ``get_config`` as long as they are numbers, texts or tuples of them, so pass a data type by its name.

    The state is a dict. A decoder that attends to regions keeps the weights of the last step in
    its ``"attention"``, shape (batch, regions), summing to one.

    Beam search calls ``step`` with one row for each beam; the rows of a study are neighbours. It repeats and reorders
    the state to match, except for two entries that keep one row for each study: ``"study"``, which no step changes, and
    ``"past"``, tensors (batch, heads, places, width). A past has a place for each word that a caption may have, times
    the number of beams: the beams of a study write next to each other, and the boolean ``"lineage"`` (rows, places)
    says which places belong to the caption of a row. In this way no beam ever copies a past.

    Parameters
    ----------
    vocabulary_size : int
        Number of token ids, padding (0) included; all else is of :class:`keras.layers.Layer`.
    """

    def __init__(self, vocabulary_size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.vocabulary_size = vocabulary_size

    def start(self, features: Features) -> State:
        """Return the state before the first token: tensors with a leading batch axis, by name."""
        raise NotImplementedError

    def step(self, token: Any, state: State) -> tuple[Any, State]:
        """Read one token of each study, (batch,) int32, in a state as :meth:`start` or the step before returned it.
        Return the logits of the token that follows, (batch, vocabulary) float32, and the next state.
        """
        raise NotImplementedError

    def call(self, features: Features, tokens: Any, training: bool | None = None) -> Any:
        """Return the logits of the token after each of ``tokens`` (teacher forcing), (batch, time, vocabulary) float32.
        Those are (batch, time) int32, start token and words; zeros are padding. Dropout is applied in `training`.
        """
        raise NotImplementedError


def masked_softmax(scores: Any, mask: Any) -> Any:
    """Softmax over the last axis in float32, zero where ``mask`` is False, even in a whole row."""
    scores = ops.where(mask, ops.cast(scores, "float32"), -1e9)
    return ops.softmax(scores, axis=-1) * ops.cast(mask, "float32")


class WordDecoder(Decoder):
    """A decoder that begins with word vectors and ends with one logit for each word. Its subclasses call
    :meth:`add_embedding`, make their own layers, and call :meth:`add_logits`, in this order. Keras draws the random
    weights of layers in the order in which they are made, so another order would give a seed other weights.
    """

    def add_embedding(self, width: int) -> None:
        self.embedding = keras.layers.Embedding(self.vocabulary_size, width, name="embedding", dtype=self.dtype_policy)

    def add_logits(self, dropout: float, tied: bool, bias: bool = True) -> None:
        """Make the dropout and the layer of float32 logits; if `tied`, the word vectors are its weights."""
        self.dropout = keras.layers.Dropout(dropout, dtype=self.dtype_policy)
        kind = TiedLogits if tied else keras.layers.Dense
        first = self.embedding if tied else self.vocabulary_size
        self.logits = kind(first, use_bias=bias, name="logits", dtype="float32")

    def call(self, features: Features, tokens: Any, training: bool | None = None, packed: bool = False) -> Any:
        """Return the logits of what a subclass' ``hidden`` returns, if `packed` of rows of :class:`Words`."""
        return self.logits(self.hidden(features, tokens, training, packed))

    def build_words(self, units: int) -> None:
        self.embedding.build((None, None))
        self.logits.build((None, None, units))


@registered
class TiedLogits(keras.layers.Layer):
    """Similarity of a hidden vector, projected to their width, to every word vector (Press and Wolf, arXiv:1608.05859),
    with or without a bias for each word. The owner of `embedding` builds it before this layer is called.
    """

    def __init__(self, embedding: Any, use_bias: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.embedding, self.use_bias = embedding, use_bias
        self.project = keras.layers.Dense(embedding.output_dim, name="project", dtype="float32")

    def get_config(self) -> dict[str, Any]:
        embedding = keras.saving.serialize_keras_object(self.embedding)
        return {**super().get_config(), "embedding": embedding, "use_bias": self.use_bias}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> TiedLogits:
        return cls(**{**config, "embedding": keras.saving.deserialize_keras_object(config["embedding"])})

    def build(self, hidden_shape: Any) -> None:
        self.projected = hidden_shape[-1] != self.embedding.output_dim
        if self.projected:
            self.project.build(hidden_shape)
        if self.use_bias:
            self.bias = self.add_weight((self.embedding.input_dim,), "zeros", name="bias")

    def call(self, hidden: Any) -> Any:
        """Return logits (..., vocabulary), float32, of hidden vectors (..., channels)."""
        vectors = ops.transpose(ops.cast(self.embedding.embeddings, "float32"))
        hidden = self.project(hidden) if self.projected else ops.cast(hidden, "float32")
        logits = ops.matmul(hidden, vectors)
        return logits + self.bias if self.use_bias else logits
