"""The interface of every decoder, and the features it reads."""

from __future__ import annotations

from typing import Any, NamedTuple

from xray_captioning.backend import keras, ops

State = Any  # nested tensors; every leaf has a leading batch axis, so that search can reorder it


class Features(NamedTuple):
    """Encoder features of a batch of studies."""

    regions: Any  # (batch, regions, channels), float, in the order view, row, column
    mask: Any  # (batch, regions), bool: False where the study does not have that view


class Decoder(keras.layers.Layer):
    """Features and tokens in, logits out.

    A subclass defines ``start``, ``step`` and ``call``, and ``call`` must equal repeated ``step``.
    What does not change while decoding is computed in ``start``. Search calls ``start`` and
    ``step`` directly, without ``__call__``: a decoder therefore builds its sub-layers in
    ``build`` and casts its inputs itself. Keras writes the constructor's arguments into
    ``get_config`` as long as they are numbers, texts or tuples of them, so pass a data type by
    its name.

    The state is a dict. A decoder that attends to regions keeps the weights of the last step in
    its ``"attention"``, shape (batch, regions), summing to one.

    Beam search calls ``step`` with one row for each beam; the rows of a study are neighbours. It
    repeats and reorders the state to match, except for two entries that keep one row for each
    study: ``"study"``, which no step changes, and ``"past"``, tensors (batch, heads, places,
    width). A past has a place for each word that a caption may have, times the number of beams:
    the beams of a study write next to each other, and the boolean ``"lineage"`` (rows, places)
    says which places belong to the caption of a row. In this way no beam ever copies a past.

    Parameters
    ----------
    vocabulary_size : int
        Number of token ids, padding (0) included.
    **kwargs
        Here and in all subclasses: of :class:`keras.layers.Layer`.
    """

    def __init__(self, vocabulary_size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.vocabulary_size = vocabulary_size

    def start(self, features: Features) -> State:
        """Return the state before the first token."""
        raise NotImplementedError

    def step(self, token: Any, state: State) -> tuple[Any, State]:
        """Read one token (batch,), int32, of each study; return logits and state.

        The logits are (batch, vocabulary), float32.
        """
        raise NotImplementedError

    def call(self, features: Features, tokens: Any, training: bool | None = None) -> Any:
        """Teacher forcing: logits of the token after each of ``tokens`` (batch, time), int32.

        They are (batch, time, vocabulary), float32.
        """
        raise NotImplementedError


def masked_softmax(scores: Any, mask: Any) -> Any:
    """Softmax over the last axis in float32, zero where ``mask`` is False, even in a whole row."""
    scores = ops.where(mask, ops.cast(scores, "float32"), -1e9)
    return ops.softmax(scores, axis=-1) * ops.cast(mask, "float32")
