"""What every search is made of, and searches for one caption, in functions of Keras for tensors, NumPy for arrays."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

Step = Callable[[Any, Any], tuple[Any, Any]]
Carried = dict[str, Any]

# A batch of so many studies is reduced to its unfinished ones when only a quarter is left. In a smaller batch that
# gains less than the second loop costs to compile. Of arrays, for which nothing is compiled, every half goes on alone.
_SHRINK_FROM = 64
_SHRINK_DIVISOR = 4
IMPOSSIBLE = -1e9
_BLOCK = 64  # tokens; near the square root of (vocabulary / candidates), where the work is least


class Rules(NamedTuple):
    """Special tokens, and the rules that every caption keeps."""

    start_id: int  # the token before the first word
    end_id: int  # the token after the last word
    maximum_length: int  # most tokens to choose, the end token included
    banned: tuple[int, ...] = ()  # never chosen; their probability is not given to others
    no_repeat_ngram: int = 0  # no n-gram of this length twice in a caption; 0 allows all


class SearchResult(NamedTuple):
    """Captions of a batch, best first."""

    tokens: Any  # (batch, beams, time) int32: no start token, only zeros after the end token
    log_probabilities: Any  # (batch, beams) float32, natural logarithm, end token included
    scores: Any  # (batch, beams) float32: their order; the above, length-normalised if asked
    gains: Any  # (batch, beams, time) float32: of each token given those before; 0 after the end
    # (batch, time, regions) float32: weight of each region for each token of the best caption, from
    # "attention" in the decoder's state; after the end without meaning. No regions: no attention.
    attention: Any


def run_until_done(advance: Callable[..., Any], carried: Carried, maximum_length: int, time: Any = 0) -> Carried:
    """Repeat ``advance(time, carried) -> time + 1, carried`` until every study is done."""
    # Of a large batch the last part goes on alone, so that a few long captions do not cost a step of the whole batch
    # each. Leaves of ``carried`` have a leading batch axis; ``"done"`` is (batch,) bool; ``"state"`` is not returned.
    ops, batch = array_namespace(carried["done"]), carried["done"].shape[0]
    few = batch // 2 if ops is numpy_ops else batch // _SHRINK_DIVISOR if batch >= _SHRINK_FROM else 0

    def going(time: Any, carried: Carried) -> Any:
        unfinished = ops.sum(ops.cast(ops.logical_not(carried["done"]), "int32"))
        return ops.logical_and(time < maximum_length, unfinished > few)

    time, carried = ops.while_loop(going, advance, (ops.convert_to_tensor(time, "int32"), carried))
    state = carried.pop("state")
    if not few:
        return carried
    rows = ops.argsort(ops.cast(carried["done"], "int32"))[:few]  # the unfinished come first
    last = map_structure(lambda x: ops.take(x, rows, axis=0), {**carried, "state": state})
    last = run_until_done(advance, last, maximum_length, time)

    def put_back(whole: Any, part: Any) -> Any:
        # TensorFlow cannot update an empty array: the attention of a decoder without any.
        return ops.scatter_update(whole, rows[:, None], part) if 0 not in whole.shape else whole

    return map_structure(put_back, carried, last)


def attention_of(state: Any, token: Any) -> Any:
    """Return a decoder's weights (rows, regions) of the step in which it read tokens (rows,)."""
    ops = array_namespace(token)
    if isinstance(state, dict) and "attention" in state:
        return ops.cast(state["attention"], "float32")
    return ops.zeros((token.shape[0], 0), dtype="float32")


def continuations(logits: Any, tokens: Any, time: Any, rules: Rules, width: int) -> tuple[Any, Any]:
    """Return gains and the likeliest tokens that the rules allow, both (rows, width), best first."""
    # Of logits (rows, vocabulary) and the `time` tokens chosen so far (rows, maximum_length); gains are natural
    # logarithms of probabilities, -1e9 where nothing is left to choose. Forbidden tokens are not masked in the
    # vocabulary, which is slow to read: as many more candidates are taken. At its `width` they stay in place.
    ops = array_namespace(logits)
    logits = ops.cast(logits, "float32")
    total, forbidden = ops.logsumexp(logits, axis=-1, keepdims=True), _forbidden(tokens, time, rules)
    wanted = min(width + forbidden.shape[1], logits.shape[1])
    values, candidates = largest(logits, wanted)
    gains = ops.where(ops.any(candidates[:, :, None] == forbidden[:, None, :], axis=-1), IMPOSSIBLE, values - total)
    if wanted == width:
        return gains, candidates
    gains, chosen = largest(gains, width)
    return gains, ops.take_along_axis(candidates, chosen, axis=1)


def largest(values: Any, k: int) -> tuple[Any, Any]:
    """Return the ``k`` largest of each row and their columns, as ``top_k`` does, but faster."""
    # They lie in the k blocks with the largest maxima, which a processor finds many at a time. Of equal ones the
    # first comes first.
    ops, (rows, columns) = array_namespace(values), values.shape
    blocks = -(-columns // _BLOCK)
    if blocks < 4 * k:
        found, where = ops.top_k(values, k)
        return found, ops.cast(where, "int32")
    if columns % _BLOCK:
        values = ops.pad(values, [(0, 0), (0, blocks * _BLOCK - columns)], constant_values=2 * IMPOSSIBLE)
    values = ops.reshape(values, (rows * blocks, _BLOCK))
    chosen = ops.sort(ops.cast(ops.top_k(ops.reshape(ops.max(values, axis=1), (rows, blocks)), k)[1], "int32"), axis=1)
    lines = ops.take(values, ops.arange(rows)[:, None] * blocks + chosen, axis=0)
    found, where = ops.top_k(ops.reshape(lines, (rows, k * _BLOCK)), k)
    where = ops.cast(where, "int32")
    return found, ops.take_along_axis(chosen, where // _BLOCK, axis=1) * _BLOCK + where % _BLOCK


def write_at(kept: Any, new: Any, time: Any, axis: int) -> Any:
    """Return ``kept`` with ``new`` written at place ``time`` of an axis that ``new`` lacks."""
    # Into an array it is written where it is: a search has arrays of its own.
    if isinstance(kept, np.ndarray):
        kept[(slice(None),) * axis + (time,)] = new
        return kept
    ops, shape = array_namespace(kept), [1] * len(kept.shape)
    shape[axis] = kept.shape[axis]
    return ops.where(ops.reshape(ops.arange(kept.shape[axis]) == time, shape), ops.expand_dims(new, axis), kept)


def _forbidden(tokens: Any, time: Any, rules: Rules) -> Any:
    # (rows, some), int32; -1 forbids nothing.
    ops, (rows, length) = array_namespace(tokens), tokens.shape
    banned = ops.convert_to_tensor(rules.banned or (-1,), dtype="int32")
    banned, n = ops.broadcast_to(banned, (rows, len(rules.banned) or 1)), rules.no_repeat_ngram
    windows = length - n + 1
    if not n or windows < 1:
        return banned
    # The last token of every n-gram of the caption that begins as its last n - 1 tokens do.
    same = ops.broadcast_to(ops.arange(windows) + n <= time, (rows, windows))
    for k in range(n - 1):
        suffix = ops.take(tokens, ops.maximum(time - (n - 1) + k, 0), axis=1)
        same = ops.logical_and(same, tokens[:, k : k + windows] == suffix[:, None])
    return ops.concatenate([banned, ops.where(same, tokens[:, n - 1 :], -1)], axis=1)


# --- one caption for each study, word by word: the likeliest word, or one sampled at random ---


class Sampling(NamedTuple):
    """How words are sampled: top-k of Fan et al., arXiv:1805.04833, top-p of arXiv:1904.09751."""

    temperature: float = 1.0  # divides the logits; above 0: the smaller, the nearer to greedy
    top_k: int = 0  # sample among this many of the likeliest words; 0 is all
    top_p: float = 1.0  # among the fewest likeliest that together have it, in (0, 1]
    seed: int = 0  # the same seed gives the same captions, however the studies are batched


def greedy_search(state: Any, step: Step, real: Any, rules: Rules) -> SearchResult:
    """Choose the likeliest token until every study is finished, by ``step(token (batch,) int32, state) -> logits
    (batch, vocabulary), state``, nested tensors with a leading batch axis; `real`, (batch,) bool, is not of padding.
    """

    def likeliest(logits: Any, time: Any, carried: Carried) -> tuple[Any, Any]:
        gains, tokens = continuations(logits, carried["tokens"], time, rules, 1)
        return gains[:, 0], tokens[:, 0]

    return _search(state, step, real, rules, likeliest, {})


def sample_search(
    state: Any, step: Step, real: Any, rules: Rules, sampling: Sampling, noise: Any, width: int | None = None
) -> SearchResult:
    """Sample a token at every step; otherwise as :func:`greedy_search`.

    Log-probabilities are the model's own, at temperature 1 and over all words. All chance comes from `noise`, (batch,
    maximum_length) float32, uniform in [0, 1), so that no study depends on another. The numbers of `sampling` may be
    scalar tensors; then `width`, at least ``top_k``, says how many words are looked at, 0 being all.
    """
    ops, width = array_namespace(state), sampling.top_k if width is None else width

    def sampled(logits: Any, time: Any, carried: Carried) -> tuple[Any, Any]:
        wide = min(width or logits.shape[1], logits.shape[1])
        gains, tokens = continuations(logits, carried["tokens"], time, rules, wide)
        if width:  # tokens that the rules forbid may stand among others
            gains, order = largest(gains, wide)
            tokens = ops.take_along_axis(tokens, order, axis=1)
            gains = ops.where(ops.arange(wide) < sampling.top_k, gains, IMPOSSIBLE)
        column = draw(gains, ops.take(carried["noise"], time, axis=1), sampling)[:, None]
        gains, tokens = (ops.take_along_axis(x, column, axis=1) for x in (gains, tokens))
        return gains[:, 0], tokens[:, 0]

    noise = ops.convert_to_tensor(noise, dtype="float32")
    return _search(state, step, real, rules, sampled, {"noise": noise})


def draw(gains: Any, noise: Any, sampling: Sampling) -> Any:
    """Return a column of each row, (rows,) int32, drawn by log-probabilities (rows, width), the likeliest first."""
    # By inverting the distribution function; noise is in [0, 1).
    ops, possible = array_namespace(gains), gains > IMPOSSIBLE / 2  # at any temperature
    weights = ops.softmax(ops.where(possible, gains / sampling.temperature, IMPOSSIBLE), axis=-1)
    before = ops.cumsum(weights, axis=-1) - weights
    # A word belongs to the nucleus if those before it have less than top_p; the first always does.
    weights = ops.where(before < sampling.top_p - 1e-6, weights, 0.0)
    upto = ops.cumsum(weights, axis=-1)
    # Below 1 by more than the rounding of float32, so that a column is always found.
    return ops.sum(ops.cast(upto <= ops.minimum(noise, 1 - 1e-6)[:, None] * upto[:, -1:], "int32"), axis=-1)


def _search(state: Any, step: Step, real: Any, rules: Rules, choose: Any, extra: Carried) -> SearchResult:
    # `choose` makes of logits, time and what is carried the log-probability and the token of each row.
    ops = array_namespace(state)

    def advance(time: Any, carried: Carried) -> tuple[Any, Carried]:
        logits, state = step(carried["last"], carried["state"])
        gain, token = choose(logits, time, carried)
        token, gain = ops.where(carried["done"], 0, token), ops.where(carried["done"], 0.0, gain)
        looked = attention_of(state, token)
        return time + 1, {
            **carried,
            "state": state,
            "last": token,
            "done": ops.logical_or(carried["done"], token == rules.end_id),
            "tokens": write_at(carried["tokens"], token, time, 1),
            "gains": write_at(carried["gains"], gain, time, 1),
            "attention": write_at(carried["attention"], looked, time, 1),
        }

    shape = (real.shape[0], rules.maximum_length)
    last = ops.full(real.shape, rules.start_id, dtype="int32")
    regions = attention_of(state, last).shape[1]
    carried = {
        "state": state,
        "last": last,
        "done": ops.logical_not(real),
        "tokens": ops.zeros(shape, dtype="int32"),
        "gains": ops.zeros(shape, dtype="float32"),
        "attention": ops.zeros((*shape, regions), dtype="float32"),
        **extra,
    }
    found = run_until_done(advance, carried, rules.maximum_length)
    total = ops.sum(found["gains"], axis=1)[:, None]
    tokens, gains = found["tokens"][:, None], found["gains"][:, None]
    return SearchResult(tokens, total, total, gains, found["attention"])


# --- functions for tensors and arrays ---


def array_namespace(tree: Any) -> Any:
    """Return ``keras.ops``, or `numpy_ops` where the first leaf of nested values is an array."""
    while isinstance(tree, (dict, list, tuple)) and tree:
        tree = next(iter(tree.values() if isinstance(tree, dict) else tree))
    if isinstance(tree, (np.ndarray, np.generic)):
        return numpy_ops
    from xray_captioning.backend import ops

    return ops


def map_structure(function: Callable[..., Any], *trees: Any) -> Any:
    """Call a function on the leaves in the same place of nested dicts, lists and tuples."""
    first = trees[0]
    if isinstance(first, dict):
        return {name: map_structure(function, *(tree[name] for tree in trees)) for name in first}
    if isinstance(first, (list, tuple)):
        parts = [map_structure(function, *part) for part in zip(*trees, strict=True)]
        return tuple(parts) if isinstance(first, tuple) else parts
    return function(*trees)


def _logsumexp(x: Any, axis: int, keepdims: bool) -> Any:
    most = x.max(axis=axis, keepdims=True)
    total = np.log(np.exp(x - most).sum(axis=axis, keepdims=True)) + most
    return total if keepdims else total.squeeze(axis)


def _top_k(x: Any, k: int) -> tuple[Any, Any]:
    order = np.argsort(-x, axis=-1, kind="stable")[..., :k]  # of equal ones the first comes first
    return np.take_along_axis(x, order, axis=-1), order


def _scatter_update(x: Any, places: Any, new: Any) -> Any:
    found = x.copy()
    found[places[:, 0]] = new
    return found


def _while_loop(going: Callable[..., Any], advance: Callable[..., Any], values: Any) -> Any:
    while going(*values):
        values = advance(*values)
    return values


_SAME = """any max min sort full zeros zeros_like logical_and logical_not logical_or maximum minimum
where broadcast_to concatenate expand_dims pad repeat reshape take take_along_axis cumsum"""

# What a search needs of ``keras.ops``, by the same names and with the same results.
numpy_ops = SimpleNamespace(
    **{name: getattr(np, name) for name in _SAME.split()},
    convert_to_tensor=np.asarray,
    convert_to_numpy=np.asarray,
    cast=lambda x, dtype: np.asarray(x).astype(dtype, copy=False),
    arange=lambda count: np.arange(count, dtype="int32"),
    argsort=lambda x: np.argsort(x, axis=-1, kind="stable"),
    sum=lambda x, axis=None: np.sum(x, axis=axis, dtype=x.dtype),
    logsumexp=_logsumexp,
    softmax=lambda x, axis: np.exp(x - _logsumexp(x, axis, True)),
    top_k=_top_k,
    scatter_update=_scatter_update,
    while_loop=_while_loop,
)
