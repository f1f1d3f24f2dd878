"""Beam search with a pool of finished captions, for a whole batch at once."""

from __future__ import annotations

from typing import Any

from xray_captioning.backend import keras, ops
from xray_captioning.search.greedy import (
    Rules,
    SearchResult,
    Step,
    allowed_log_probabilities,
    write_token,
)

IMPOSSIBLE = -1e9


def beam_search(
    state: Any, step: Step, batch: int, rules: Rules, beam_size: int, length_penalty: float = 0.0
) -> SearchResult:
    """Keep the best ``beam_size`` unfinished captions, and as many finished ones.

    A caption is finished when its end token is among the ``beam_size`` best continuations. A
    study is done when its pool is full and no unfinished caption, ranked at its present length,
    is better than the worst in the pool; with ``length_penalty`` 0 nothing better can follow.
    ``beam_size`` 1 gives the greedy caption.

    Parameters
    ----------
    state : nested tensors with a leading batch axis
        What ``step`` starts from.
    step : callable
        ``step(token (rows,) int32, state) -> logits (rows, vocabulary), state``; it is called
        with ``batch * beam_size`` rows.
    batch : int
        Number of studies.
    rules : Rules
    beam_size : int
    length_penalty : float
        Exponent a of the score ``log p / ((5 + length) / 6) ** a``; at least 0.

    Returns
    -------
    SearchResult
        ``beam_size`` captions a study, best score first. Where fewer captions than that exist,
        the last have score and log-probability -1e9 and no tokens.

    References
    ----------
    .. [1] Wu et al., arXiv:1609.08144, section 7 and eq. 14 (length normalisation).
    """
    search = _Search(step, batch, rules, beam_size, length_penalty)
    alive, pool = search.begin(state)
    loop = (ops.convert_to_tensor(0, "int32"), alive, pool)
    _, alive, pool = ops.while_loop(
        search.unfinished, search.advance, loop, maximum_iterations=rules.maximum_length
    )
    # A caption cut at the maximum length counts as it stands.
    totals = ops.where(alive["done"][:, None], IMPOSSIBLE, alive["totals"])
    scores = search.normalised(totals, rules.maximum_length)
    return SearchResult(*search.merge(pool, (alive["tokens"], totals, scores)))


class _Search:
    """The loop's pieces; (B, K, T) is batch, beams, time."""

    def __init__(
        self, step: Step, batch: int, rules: Rules, beam_size: int, length_penalty: float
    ) -> None:
        self.step, self.batch, self.rules = step, batch, rules
        self.beams, self.length_penalty = beam_size, length_penalty

    def begin(self, state: Any) -> tuple[Any, Any]:
        shape = (self.batch, self.beams)
        tokens = ops.zeros((*shape, self.rules.maximum_length), dtype="int32")
        nothing = ops.full(shape, IMPOSSIBLE, dtype="float32")
        alive = {
            "state": keras.tree.map_structure(lambda x: ops.repeat(x, self.beams, axis=0), state),
            "last": ops.full((self.batch * self.beams,), self.rules.start_id, dtype="int32"),
            "tokens": tokens,
            # All beams start alike, so only the first may be extended.
            "totals": ops.where(ops.arange(self.beams) == 0, 0.0, nothing),
            "done": ops.zeros((self.batch,), dtype="bool"),
        }
        return alive, (tokens, nothing, nothing)

    def normalised(self, totals: Any, length: Any) -> Any:
        if not self.length_penalty:
            return totals
        penalty = ((5.0 + ops.cast(length, "float32")) / 6.0) ** self.length_penalty
        return ops.where(totals <= IMPOSSIBLE / 2, IMPOSSIBLE, totals / penalty)

    def unfinished(self, time: Any, alive: Any, pool: Any) -> Any:
        return ops.logical_not(ops.all(alive["done"]))

    def advance(self, time: Any, alive: Any, pool: Any) -> Any:
        logits, state = self.step(alive["last"], alive["state"])
        totals, tokens, beam, token = self.candidates(logits, alive, time)
        ends = token == self.rules.end_id
        in_beam = ops.arange(2 * self.beams) < self.beams
        going = ops.logical_not(alive["done"])[:, None]
        finished = ops.logical_and(ops.logical_and(ends, in_beam), going)
        finished_totals = ops.where(finished, totals, IMPOSSIBLE)
        scores = self.normalised(finished_totals, time + 1)
        pool = self.merge(pool, (tokens, finished_totals, scores))
        alive = {
            **self.survivors(state, totals, tokens, beam, token, ends),
            "done": alive["done"],
        }
        return time + 1, {**alive, "done": self.is_done(alive, pool, time + 1)}, pool

    def is_done(self, alive: Any, pool: Any, length: Any) -> Any:
        # Once done stays done: a caption that goes on would gain from the length penalty.
        best = ops.max(self.normalised(alive["totals"], length), axis=1)
        worst = ops.min(pool[2], axis=1)
        beaten = ops.logical_and(worst > IMPOSSIBLE / 2, best <= worst)
        hopeless = ops.max(alive["totals"], axis=1) <= IMPOSSIBLE / 2
        return ops.logical_or(alive["done"], ops.logical_or(hopeless, beaten))

    def candidates(self, logits: Any, alive: Any, time: Any) -> tuple[Any, Any, Any, Any]:
        # The 2K best continuations: at most K of them end, so K can always go on.
        rows = ops.reshape(alive["tokens"], (-1, self.rules.maximum_length))
        gains = allowed_log_probabilities(logits, rows, time, self.rules)
        vocabulary = gains.shape[-1]
        totals = alive["totals"][..., None] + ops.reshape(
            gains, (self.batch, self.beams, vocabulary)
        )
        totals = ops.maximum(ops.reshape(totals, (self.batch, -1)), IMPOSSIBLE)
        width = min(2 * self.beams, self.beams * vocabulary)
        best, index = ops.top_k(totals, width)
        if width < 2 * self.beams:
            best = ops.pad(best, [(0, 0), (0, 2 * self.beams - width)], constant_values=IMPOSSIBLE)
            index = ops.pad(index, [(0, 0), (0, 2 * self.beams - width)])
        index = ops.cast(index, "int32")
        beam, token = index // vocabulary, index % vocabulary
        tokens = ops.take_along_axis(alive["tokens"], beam[..., None], axis=1)
        return best, write_token(tokens, token, time), beam, token

    def survivors(
        self, state: Any, totals: Any, tokens: Any, beam: Any, token: Any, ends: Any
    ) -> dict[str, Any]:
        totals, chosen = ops.top_k(ops.where(ends, IMPOSSIBLE, totals), self.beams)
        beam = ops.take_along_axis(beam, ops.cast(chosen, "int32"), axis=1)
        rows = ops.reshape(ops.arange(self.batch)[:, None] * self.beams + beam, (-1,))
        last = ops.take_along_axis(token, ops.cast(chosen, "int32"), axis=1)
        return {
            "state": keras.tree.map_structure(lambda x: ops.take(x, rows, axis=0), state),
            "last": ops.reshape(last, (-1,)),
            "tokens": ops.take_along_axis(tokens, ops.cast(chosen, "int32")[..., None], axis=1),
            "totals": totals,
        }

    def merge(self, pool: Any, others: Any) -> tuple[Any, Any, Any]:
        # The K best of two sets of captions; each is (tokens, totals, scores).
        tokens, totals, scores = (ops.concatenate(pair, axis=1) for pair in zip(pool, others))
        scores, chosen = ops.top_k(scores, self.beams)
        chosen = ops.cast(chosen, "int32")
        tokens = ops.take_along_axis(tokens, chosen[..., None], axis=1)
        tokens = ops.where((scores <= IMPOSSIBLE / 2)[..., None], 0, tokens)
        return tokens, ops.take_along_axis(totals, chosen, axis=1), scores
