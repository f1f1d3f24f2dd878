"""Greedy search, and the replay of a caption that is already chosen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from xray_captioning.backend import ops

Step = Callable[[Any, Any], tuple[Any, Any]]


class SearchResult(NamedTuple):
    """Captions of a batch, best first.

    Attributes
    ----------
    tokens : tensor, shape (batch, beams, time), int32
        Without the start token; after the end token only zeros.
    log_probabilities : tensor, shape (batch, beams), float32
        Natural logarithm of the caption's probability, end token included.
    scores : tensor, shape (batch, beams), float32
        What the captions are ranked by: the log-probability, length-normalised if asked.
    """

    tokens: Any
    log_probabilities: Any
    scores: Any


class Rules(NamedTuple):
    """What every search needs to know of the vocabulary and the caption's form.

    Attributes
    ----------
    start_id, end_id : int
        Tokens before the first and after the last word.
    maximum_length : int
        Most tokens to choose, the end token included.
    banned : tuple of int
        Tokens never chosen; their probability is not given to others.
    no_repeat_ngram : int
        No n-gram of this length twice in a caption; 0 allows all.
    """

    start_id: int
    end_id: int
    maximum_length: int
    banned: tuple[int, ...] = ()
    no_repeat_ngram: int = 0


def greedy_search(state: Any, step: Step, batch: int, rules: Rules) -> SearchResult:
    """Choose the likeliest token at every step until every study is finished.

    Parameters
    ----------
    state : nested tensors with a leading batch axis
        What ``step`` starts from.
    step : callable
        ``step(token (batch,) int32, state) -> logits (batch, vocabulary), state``.
    batch : int
        Number of studies.
    rules : Rules

    Returns
    -------
    SearchResult
        With one beam.
    """

    def unfinished(time: Any, token: Any, state: Any, tokens: Any, total: Any, done: Any) -> Any:
        return ops.logical_not(ops.all(done))

    def advance(time: Any, token: Any, state: Any, tokens: Any, total: Any, done: Any) -> Any:
        logits, state = step(token, state)
        scores = allowed_log_probabilities(logits, tokens, time, rules)
        token = ops.where(done, 0, ops.cast(ops.argmax(scores, axis=-1), "int32"))
        gain = ops.take_along_axis(scores, token[:, None], axis=-1)[:, 0]
        total = total + ops.where(done, 0.0, gain)
        done = ops.logical_or(done, token == rules.end_id)
        return time + 1, token, state, write_token(tokens, token, time), total, done

    loop = (
        ops.convert_to_tensor(0, "int32"),
        ops.full((batch,), rules.start_id, dtype="int32"),
        state,
        ops.zeros((batch, rules.maximum_length), dtype="int32"),
        ops.zeros((batch,), dtype="float32"),
        ops.zeros((batch,), dtype="bool"),
    )
    *_, tokens, total, _ = ops.while_loop(
        unfinished, advance, loop, maximum_iterations=rules.maximum_length
    )
    return SearchResult(tokens[:, None], total[:, None], total[:, None])


def replay(state: Any, step: Step, tokens: Any, start_id: int) -> tuple[Any, Any]:
    """Follow chosen captions again and say how sure and where the model was at each word.

    Parameters
    ----------
    state : dict of tensors with a leading batch axis
        As for :func:`greedy_search`; its ``"attention"`` leaf, if any, is recorded.
    step : callable
    tokens : tensor, shape (batch, time), int32
    start_id : int

    Returns
    -------
    log_probabilities : tensor, shape (batch, time), float32
        Of each token given those before it.
    attention : tensor, shape (batch, time, regions), float32
        Zero regions where the decoder does not attend.
    """
    batch, time = tokens.shape
    regions = state["attention"].shape[1] if "attention" in state else 0
    previous = ops.concatenate([ops.full((batch, 1), start_id, dtype="int32"), tokens], axis=1)

    def advance(now: Any, state: Any, gains: Any, attention: Any) -> Any:
        logits, state = step(ops.take(previous, now, axis=1), state)
        token = ops.take(tokens, now, axis=1)[:, None]
        gain = ops.take_along_axis(ops.log_softmax(logits, axis=-1), token, axis=-1)[:, 0]
        here = ops.arange(time) == now
        gains = ops.where(here[None], gain[:, None], gains)
        if regions:
            weights = ops.cast(state["attention"], "float32")
            attention = ops.where(here[None, :, None], weights[:, None], attention)
        return now + 1, state, gains, attention

    loop = (
        ops.convert_to_tensor(0, "int32"),
        state,
        ops.zeros((batch, time), dtype="float32"),
        ops.zeros((batch, time, regions), dtype="float32"),
    )
    *_, gains, attention = ops.while_loop(
        lambda now, *_: now < time, advance, loop, maximum_iterations=time
    )
    return gains, attention


def allowed_log_probabilities(logits: Any, tokens: Any, time: Any, rules: Rules) -> Any:
    """Return log-softmax (rows, vocabulary) with forbidden tokens at -1e9.

    Parameters
    ----------
    logits : tensor, shape (rows, vocabulary)
    tokens : tensor, shape (rows, maximum_length), int32
        Chosen so far.
    time : scalar tensor, int32
        Number of tokens chosen so far.
    rules : Rules
    """
    scores = ops.log_softmax(ops.cast(logits, "float32"), axis=-1)
    vocabulary = scores.shape[-1]
    for token in rules.banned:
        scores = ops.where(ops.arange(vocabulary) == token, -1e9, scores)
    if rules.no_repeat_ngram:
        scores = ops.where(_repeats(tokens, time, vocabulary, rules.no_repeat_ngram), -1e9, scores)
    return scores


def write_token(tokens: Any, token: Any, time: Any) -> Any:
    """Return ``tokens`` (..., length) with ``token`` (...) written at position ``time``."""
    here = ops.arange(tokens.shape[-1]) == time
    return ops.where(here, token[..., None], tokens)


def _repeats(tokens: Any, time: Any, vocabulary: int, n: int) -> Any:
    # True (rows, vocabulary) where a token would complete an n-gram that is already there.
    rows, length = tokens.shape
    windows = length - n + 1
    if windows < 1:
        return ops.zeros((rows, vocabulary), dtype="bool")
    same = ops.broadcast_to(ops.arange(windows) + n <= time, (rows, windows))
    for k in range(n - 1):
        suffix = ops.take(tokens, ops.maximum(time - (n - 1) + k, 0), axis=1)
        same = ops.logical_and(same, tokens[:, k : k + windows] == suffix[:, None])
    completes = ops.one_hot(tokens[:, n - 1 :], vocabulary, dtype="bool")
    return ops.any(ops.logical_and(same[..., None], completes), axis=1)
