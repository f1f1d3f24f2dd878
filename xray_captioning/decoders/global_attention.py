"""Additive attention over all regions of all views, then one GRU."""

from __future__ import annotations

from typing import Any

from xray_captioning.backend import keras, ops, registered
from xray_captioning.decoders.decoder import Features, State, masked_softmax
from xray_captioning.decoders.recurrent import RecurrentDecoder


@registered
class AdditiveAttentionGRUCell(keras.layers.Layer):
    """One step: attend with the previous hidden state, then read context and word.

    The regions, their keys and their mask are part of the state, because a loop that XLA can
    compile has access to nothing else. ``attention`` is the width of its hidden layer.
    """

    def __init__(
        self, units: int, attention: int, regions: int, channels: int, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.units, self.regions, self.channels = units, regions, channels
        self.attention = attention
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

    def attend(self, hidden: Any, regions: Any, keys: Any, mask: Any) -> tuple[Any, Any]:
        """Return the context (batch, channels) and the weights (batch, regions)."""
        energy = self.energy(ops.tanh(keys + self.query(hidden)[:, None, :]))[..., 0]
        weights = masked_softmax(energy, mask > 0.5)
        context = ops.einsum("br,brc->bc", ops.cast(weights, regions.dtype), regions)
        return context, weights

    def call(
        self, inputs: Any, states: list[Any], training: bool | None = None
    ) -> tuple[Any, list[Any]]:
        """Read word vectors (batch, embedding + 1); return the hidden state and all states.

        The last column is 0 for padding, which is not read: the hidden state stays and zeros are
        returned, as in Keras where an embedding masks it.
        """
        hidden, regions, keys, mask, _ = states
        words, real = inputs[..., :-1], inputs[..., -1:] > 0.5
        context, weights = self.attend(hidden, regions, keys, mask)
        read, _ = self.gru(ops.concatenate([context, words], axis=-1), [hidden])
        states = [ops.where(real, read, hidden), regions, keys, mask]
        return ops.where(real, read, 0), [*states, ops.cast(weights, mask.dtype)]


@registered
class GlobalAttention(RecurrentDecoder):
    """Show, attend and tell over a fixed set of regions, with a GRU.

    At each step the energies of the regions are ``V tanh(W1 regions + W2 hidden)``; the context
    is their softmax-weighted mean; the GRU reads context and word vector; a dense layer gives
    the logits.

    Parameters
    ----------
    units, embedding, attention : int
        Widths of the state, the word vectors and the attention's hidden layer.
    dropout : float
        On word vectors and on the hidden state before the logits, in [0, 1).
    tied_embeddings : bool
        The word vectors are the weights of the logits, too.

    References
    ----------
    .. [1] Bahdanau et al., arXiv:1409.0473, section A.1.2 (additive attention).
    .. [2] Xu et al., arXiv:1502.03044 (attention over image regions).
    """

    names = ("hidden", "regions", "keys", "mask", "attention")

    def __init__(
        self,
        vocabulary_size: int,
        units: int = 512,
        embedding: int = 300,
        attention: int = 512,
        dropout: float = 0.2,
        tied_embeddings: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(vocabulary_size, **kwargs)
        self.units, self.attention = units, attention
        self.add_embedding(embedding)
        self.add_logits(dropout, tied_embeddings)

    def build(self, features_shape: Any, tokens_shape: Any = None) -> None:
        """Build from the shapes of the features, regions (batch, regions, channels) first."""
        _, regions, channels = features_shape[0]
        self.cell = AdditiveAttentionGRUCell(
            self.units, self.attention, regions, channels, name="cell", dtype=self.dtype_policy.name
        )
        self.rnn = keras.layers.RNN(
            self.cell, return_sequences=True, name="rnn", dtype=self.dtype_policy
        )
        self.rnn.build((None, None, self.embedding.output_dim + 1))
        self.build_words(self.units)

    def start(self, features: Features) -> State:
        """Return zero hidden state, the regions and their keys."""
        regions = ops.cast(features.regions, self.compute_dtype)
        mask = ops.cast(features.mask, self.compute_dtype)
        hidden = ops.zeros((ops.shape(regions)[0], self.units), dtype=self.compute_dtype)
        return {
            "hidden": hidden,
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
