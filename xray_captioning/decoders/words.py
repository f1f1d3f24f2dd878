"""The first and the last layers of a decoder: word vectors, and one logit for each word."""

from __future__ import annotations

from typing import Any

from xray_captioning.backend import keras, ops
from xray_captioning.decoders.decoder import Decoder


class WordDecoder(Decoder):
    """A decoder that begins with word vectors and ends with one logit for each word.

    Its subclasses call :meth:`add_embedding`, make their own layers, and call
    :meth:`add_logits`, in this order: Keras draws the random weights of layers in the order in
    which they are made, and a seed shall go on giving the same ones.
    """

    def add_embedding(self, width: int) -> None:
        """Make the layer of word vectors, ``width`` numbers for each word."""
        self.embedding = keras.layers.Embedding(
            self.vocabulary_size, width, name="embedding", dtype=self.dtype_policy
        )

    def add_logits(self, dropout: float, tied: bool, bias: bool = True) -> None:
        """Make the dropout and the layer from hidden vectors to float32 logits.

        If `tied`, the word vectors are its weights; `bias` is a learned number for each word.
        """
        self.dropout = keras.layers.Dropout(dropout, dtype=self.dtype_policy)
        self.logits = (
            TiedLogits(self.embedding, bias, name="logits", dtype="float32")
            if tied
            else keras.layers.Dense(
                self.vocabulary_size, use_bias=bias, name="logits", dtype="float32"
            )
        )

    def build_words(self, units: int) -> None:
        """Build both layers, for hidden vectors of ``units`` channels."""
        self.embedding.build((None, None))
        self.logits.build((None, None, units))
        self.built = True


class TiedLogits(keras.layers.Layer):
    """Similarity of a hidden vector to every word vector, with or without a bias for each word.

    A hidden vector of another width than the word vectors is projected first. The owner of
    `embedding` builds it before this layer is called (Press and Wolf, arXiv:1608.05859).
    """

    def __init__(self, embedding: Any, use_bias: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.embedding, self.use_bias = embedding, use_bias
        self.project = keras.layers.Dense(embedding.output_dim, name="project", dtype="float32")

    def build(self, hidden_shape: Any) -> None:
        """Build for hidden vectors of ``hidden_shape[-1]`` channels."""
        self.projected = hidden_shape[-1] != self.embedding.output_dim
        if self.projected:
            self.project.build(hidden_shape)
        if self.use_bias:
            self.bias = self.add_weight(
                shape=(self.embedding.input_dim,), initializer="zeros", name="bias"
            )
        self.built = True

    def call(self, hidden: Any) -> Any:
        """Return logits (..., vocabulary), float32, of hidden vectors (..., channels)."""
        vectors = ops.transpose(ops.cast(self.embedding.embeddings, "float32"))
        hidden = self.project(hidden) if self.projected else ops.cast(hidden, "float32")
        logits = ops.matmul(hidden, vectors)
        return logits + self.bias if self.use_bias else logits
