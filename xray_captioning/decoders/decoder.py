"""The protocol every decoder keeps, and the features it reads."""

from __future__ import annotations

from typing import Any, NamedTuple

from xray_captioning.backend import keras, ops

State = Any  # nested tensors; every leaf has a leading batch axis, so that search can reorder it


class Features(NamedTuple):
    """What an encoder saw in a batch of studies.

    Attributes
    ----------
    regions : tensor or array, shape (batch, regions, channels), float
        Feature vectors in the order view, row, column.
    mask : tensor or array, shape (batch, regions), bool
        False where a region belongs to a view the study does not have.
    """

    regions: Any
    mask: Any


class Decoder(keras.layers.Layer):
    """Features and tokens in, logits out.

    A subclass gives ``start``, ``step`` and ``call``, and ``call`` must equal repeated ``step``.
    What does not change while decoding is computed in ``start``. ``start`` and ``step`` bypass
    ``__call__``: sub-layers are built in ``build`` and casts are explicit.

    The state is a dict; where the decoder attends to regions its ``"attention"`` holds the
    weights of the last step, shape (batch, regions), summing to one.

    Beam search gives ``step`` several rows a study, which lie side by side, and repeats and
    reorders the state to match. Two entries it leaves with one row a study: ``"study"``, which no
    step changes, and ``"past"``, tensors (batch, heads, places, width) with as many places as
    there may be words. Beams need not copy a past they share: there then are places for every
    beam, side by side for one time, and the boolean ``"lineage"`` (rows, places) says which of
    them belong to a row's caption.

    Parameters
    ----------
    vocabulary_size : int
        Number of token ids, padding (0) included.
    **kwargs
        Of :class:`keras.layers.Layer`.
    """

    def __init__(self, vocabulary_size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.vocabulary_size = vocabulary_size

    def start(self, features: Features) -> State:
        """Return the state before the first token.

        Parameters
        ----------
        features : Features

        Returns
        -------
        dict of tensors, each with a leading batch axis
        """
        raise NotImplementedError

    def step(self, token: Any, state: State) -> tuple[Any, State]:
        """Read one token a study.

        Parameters
        ----------
        token : tensor, shape (batch,), int32
        state : dict of tensors

        Returns
        -------
        logits : tensor, shape (batch, vocabulary), float32
        state : dict of tensors
        """
        raise NotImplementedError

    def call(self, features: Features, tokens: Any, training: bool | None = None) -> Any:
        """Teacher forcing: logits of the token after each of ``tokens``.

        Parameters
        ----------
        features : Features
        tokens : tensor, shape (batch, time), int32
        training : bool, optional

        Returns
        -------
        tensor, shape (batch, time, vocabulary), float32
        """
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "vocabulary_size": self.vocabulary_size}


def masked_softmax(scores: Any, mask: Any) -> Any:
    """Softmax over the last axis in float32, zero where ``mask`` is False.

    A row without any True is all zeros rather than not-a-number.
    """
    scores = ops.where(mask, ops.cast(scores, "float32"), -1e9)
    return ops.softmax(scores, axis=-1) * ops.cast(mask, "float32")
