"""One caption for each study, word by word: the likeliest word, or one sampled at random."""

from collections.abc import Callable
from typing import Any, NamedTuple

from xray_captioning.search import loop
from xray_captioning.search.loop import IMPOSSIBLE, Carried, Rules, SearchResult, Step, array_namespace

# From logits, time and what is carried to the log-probability and the token of each row.
Choose = Callable[[Any, Any, Carried], tuple[Any, Any]]


class Sampling(NamedTuple):
    """How words are sampled: top-k of Fan et al., arXiv:1805.04833, top-p of arXiv:1904.09751."""

    temperature: float = 1.0  # divides the logits; above 0: the smaller, the nearer to greedy
    top_k: int = 0  # sample among this many of the likeliest words; 0 is all
    top_p: float = 1.0  # among the fewest likeliest that together have it, in (0, 1]
    seed: int = 0  # the same seed gives the same captions, however the studies are batched


def greedy_search(state: Any, step: Step, real: Any, rules: Rules) -> SearchResult:
    """Choose the likeliest token at every step until every study is finished; one beam.

    It starts from `state`, nested tensors with a leading batch axis, and calls ``step(token (batch,)
    int32, state) -> logits (batch, vocabulary), state``. `real`, (batch,) bool, is False for padding.
    """

    def likeliest(logits: Any, time: Any, carried: Carried) -> tuple[Any, Any]:
        gains, tokens = loop.continuations(logits, carried["tokens"], time, rules, 1)
        return gains[:, 0], tokens[:, 0]

    return _search(state, step, real, rules, likeliest, {})


def sample_search(
    state: Any, step: Step, real: Any, rules: Rules, sampling: Sampling, noise: Any, width: int | None = None
) -> SearchResult:
    """Sample a token at every step; otherwise as :func:`greedy_search`.

    Log-probabilities are the model's own, at temperature 1 and over all words. The seed of `sampling` is not used:
    all chance comes from `noise`, (batch, maximum_length) float32, uniform in [0, 1), so that a study's caption
    depends on no other study. The other numbers may be scalar tensors, so that one compiled search serves them all;
    then `width`, at least ``top_k``, says how many words are looked at, 0 being all.
    """
    ops, width = array_namespace(state), sampling.top_k if width is None else width

    def sampled(logits: Any, time: Any, carried: Carried) -> tuple[Any, Any]:
        wide = min(width or logits.shape[1], logits.shape[1])
        gains, tokens = loop.continuations(logits, carried["tokens"], time, rules, wide)
        if width:  # tokens that the rules forbid may stand among others
            gains, order = ops.top_k(gains, wide)
            tokens = ops.take_along_axis(tokens, ops.cast(order, "int32"), axis=1)
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
    level = ops.minimum(noise, 1 - 1e-6)[:, None] * upto[:, -1:]
    return ops.sum(ops.cast(upto <= level, "int32"), axis=-1)


def _search(state: Any, step: Step, real: Any, rules: Rules, choose: Choose, extra: Carried) -> SearchResult:
    ops = array_namespace(state)

    def advance(time: Any, carried: Carried) -> tuple[Any, Carried]:
        logits, state = step(carried["last"], carried["state"])
        gain, token = choose(logits, time, carried)
        token, gain = ops.where(carried["done"], 0, token), ops.where(carried["done"], 0.0, gain)
        looked = loop.attention_of(state, token)
        return time + 1, {
            **carried,
            "state": state,
            "last": token,
            "done": ops.logical_or(carried["done"], token == rules.end_id),
            "tokens": loop.write_at(carried["tokens"], token, time, 1),
            "gains": loop.write_at(carried["gains"], gain, time, 1),
            "attention": loop.write_at(carried["attention"], looked, time, 1),
        }

    shape = (real.shape[0], rules.maximum_length)
    last = ops.full(real.shape, rules.start_id, dtype="int32")
    regions = loop.attention_of(state, last).shape[1]
    carried = {
        "state": state,
        "last": last,
        "done": ops.logical_not(real),
        "tokens": ops.zeros(shape, dtype="int32"),
        "gains": ops.zeros(shape, dtype="float32"),
        "attention": ops.zeros((*shape, regions), dtype="float32"),
        **extra,
    }
    found = loop.run_until_done(advance, carried, rules.maximum_length)
    total = ops.sum(found["gains"], axis=1)[:, None]
    tokens, gains = found["tokens"][:, None], found["gains"][:, None]
    return SearchResult(tokens, total, total, gains, found["attention"])
