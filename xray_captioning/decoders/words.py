"""The last layer of a decoder: a hidden vector in, one logit a word out."""

from __future__ import annotations

from typing import Any

from xray_captioning.backend import keras, ops


def word_logits(embedding: Any, tied: bool, bias: bool = True) -> Any:
    """Return the layer that turns hidden vectors into float32 logits over a vocabulary.

    Parameters
    ----------
    embedding : keras.layers.Embedding
        The decoder's word vectors.
    tied : bool
        Use them as weights; else a dense layer has its own.
    bias : bool
        Add a learned number to each word's logit.
    """
    if tied:
        return TiedLogits(embedding, bias, name="logits", dtype="float32")
    return keras.layers.Dense(embedding.input_dim, use_bias=bias, name="logits", dtype="float32")


class TiedLogits(keras.layers.Layer):
    """Similarity of a hidden vector to every word vector, with or without a bias a word.

    A hidden vector of another width than the word vectors is projected first.

    Parameters
    ----------
    embedding : keras.layers.Embedding
        Built by its owner before this layer is called.
    use_bias : bool
    **kwargs
        Of :class:`keras.layers.Layer`.

    References
    ----------
    .. [1] Press and Wolf, arXiv:1608.05859.
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
