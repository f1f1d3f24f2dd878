"""Beam search with a pool of finished captions, for a whole batch at once."""

from typing import Any

from xray_captioning.search import loop
from xray_captioning.search.loop import IMPOSSIBLE, Carried, Rules, SearchResult, Step, array_namespace, map_structure

SHARED = ("study", "past")  # entries of a state that the beams of a study have in common


def beam_search(state: Any, step: Step, real: Any, rules: Rules, beams: int, length_penalty: Any = 0.0) -> SearchResult:
    """Keep the best ``beams`` unfinished captions, and as many finished ones, best first.

    A caption is finished when its end token is among the ``beams`` best continuations; a study when its pool is
    full and no unfinished caption, ranked at its present length, is better than the worst in there. Arguments are
    those of :func:`~xray_captioning.search.loop.greedy_search`, but ``step`` gets ``beams`` rows a study; entries
    ``"study"`` and ``"past"`` of the state (see :class:`xray_captioning.decoders.Decoder`) keep one, and are not
    reordered, nor is what ``step`` returns unchanged. ``length_penalty`` is the exponent a >= 0 of the score
    ``log p / ((5 + length) / 6) ** a`` (Wu et al., arXiv:1609.08144, eq. 14). Missing captions score -1e9.
    """
    ops = array_namespace(state)
    search = _Search(ops, step, rules, beams, length_penalty)
    found = loop.run_until_done(search.advance, search.begin(state, real), rules.maximum_length)
    # A caption of the maximum length counts as finished.
    totals = ops.where(found["done"][:, None], IMPOSSIBLE, found["totals"])
    scores = search.normalised(totals, rules.maximum_length)
    captions, totals, scores = search.merge(found["pool"], (found["captions"], totals, scores))
    # Where the best caption was among the beams when each of its tokens was chosen.
    attention = ops.take_along_axis(found["attention"], captions["slots"][:, 0, :, None][:, None], axis=1)[:, 0]
    return SearchResult(captions["tokens"], totals, scores, captions["gains"], attention)


class _Search:
    """The steps of the search; what they pass on has the shape (batch, beams, ...): (B, K, ...)."""

    def __init__(self, ops: Any, step: Step, rules: Rules, beams: int, length_penalty: Any) -> None:
        self.ops, self.step, self.rules, self.beams = ops, step, rules, beams
        self.length_penalty = ops.cast(length_penalty, "float32")

    def begin(self, state: Any, real: Any) -> Carried:
        ops = self.ops
        shape, regions = (real.shape[0], self.beams), loop.attention_of(state, real).shape[1]
        times = (*shape, self.rules.maximum_length)
        # For each token of a caption: itself, its log-probability, the beam it came from.
        kinds = {"tokens": "int32", "gains": "float32", "slots": "int32"}
        captions = {name: ops.zeros(times, dtype=kind) for name, kind in kinds.items()}
        nothing = ops.full(shape, IMPOSSIBLE, dtype="float32")
        return {
            "state": _repeated(state, self.beams),
            "last": ops.full(shape, self.rules.start_id, dtype="int32"),
            "captions": captions,
            # All beams start equal, so only the first may be extended.
            "totals": ops.where(ops.arange(self.beams) == 0, 0.0, nothing),
            "attention": ops.zeros((*times, regions), dtype="float32"),
            "pool": (captions, nothing, nothing),
            "done": ops.logical_not(real),
        }

    def normalised(self, totals: Any, length: Any) -> Any:
        penalty = ((5.0 + self.ops.cast(length, "float32")) / 6.0) ** self.length_penalty
        return self.ops.where(totals <= IMPOSSIBLE / 2, IMPOSSIBLE, totals / penalty)

    def advance(self, time: Any, carried: Carried) -> tuple[Any, Carried]:
        own, shared = carried["state"]
        last, before = map_structure(_flat, (carried["last"], own))
        logits, after = self.step(last, {**before, **shared} if shared else before)
        totals, captions, ends = self.candidates(logits, carried, time)
        pool = self.with_finished(carried, captions, totals, ends, time + 1)
        totals, chosen = loop.largest(self.ops.where(ends, IMPOSSIBLE, totals), self.beams)
        captions = _choose(captions, chosen)
        beam, looked = self.ops.take(captions["slots"], time, axis=2), self.unflat(loop.attention_of(after, last))
        after, shared = _split(after)
        return time + 1, {
            "state": (self.reordered(own, before, after, beam), shared),
            "last": self.ops.take(captions["tokens"], time, axis=2),
            "captions": captions,
            "totals": totals,
            "attention": loop.write_at(carried["attention"], looked, time, 2),
            "pool": pool,
            "done": self.is_done(carried["done"], totals, pool, time + 1),
        }

    def candidates(self, logits: Any, carried: Carried, time: Any) -> tuple[Any, Any, Any]:
        ops = self.ops
        # The 2K best continuations: at most K of them end, so K can always go on. They are among
        # the 2K best of each beam.
        captions, width = carried["captions"], min(2 * self.beams, logits.shape[1])
        gains, tokens = loop.continuations(logits, _flat(captions["tokens"]), time, self.rules, width)
        gains, tokens = (ops.reshape(x, (-1, self.beams * width)) for x in (gains, tokens))
        totals = ops.maximum(ops.repeat(carried["totals"], width, axis=1) + gains, IMPOSSIBLE)
        totals, chosen = loop.largest(totals, 2 * self.beams)
        slots = chosen // width
        tokens, gains = _choose((tokens, gains), chosen)
        new, captions = {"tokens": tokens, "gains": gains, "slots": slots}, _choose(captions, slots)
        captions = map_structure(lambda kept, own: loop.write_at(kept, own, time, 2), captions, new)
        return totals, captions, tokens == self.rules.end_id

    def with_finished(self, carried: Carried, captions: Any, totals: Any, ends: Any, length: Any) -> Any:
        in_beam = self.ops.arange(2 * self.beams) < self.beams
        going = self.ops.logical_not(carried["done"])[:, None]
        totals = self.ops.where(self.ops.logical_and(self.ops.logical_and(ends, in_beam), going), totals, IMPOSSIBLE)
        return self.merge(carried["pool"], (captions, totals, self.normalised(totals, length)))

    def merge(self, pool: Any, others: Any) -> Any:
        # The K best of two sets of captions; each is (captions, totals, scores).
        captions, totals, scores = map_structure(lambda *pair: self.ops.concatenate(pair, axis=1), pool, others)
        scores, chosen = loop.largest(scores, self.beams)
        captions, totals = _choose((captions, totals), chosen)
        real = (scores > IMPOSSIBLE / 2)[..., None]
        captions = {name: self.ops.where(real, x, self.ops.zeros_like(x)) for name, x in captions.items()}
        return captions, totals, scores

    def is_done(self, done: Any, totals: Any, pool: Any, length: Any) -> Any:
        # A study that is done stays done, because the length penalty favours captions that grow.
        best, worst = self.ops.max(self.normalised(totals, length), axis=1), self.ops.min(pool[2], axis=1)
        beaten = self.ops.logical_and(worst > IMPOSSIBLE / 2, best <= worst)
        return self.ops.logical_or(done, self.ops.logical_or(self.ops.max(totals, axis=1) <= IMPOSSIBLE / 2, beaten))

    def reordered(self, carried: Any, before: Any, after: Any, beam: Any) -> Any:
        # Each beam gets the state of the beam that it continues.
        rows = _flat(self.ops.arange(beam.shape[0])[:, None] * self.beams + beam)

        def follow(kept: Any, old: Any, new: Any) -> Any:
            return kept if new is old else self.unflat(self.ops.take(new, rows, axis=0))

        return map_structure(follow, carried, before, after)

    def unflat(self, x: Any) -> Any:
        return self.ops.reshape(x, (x.shape[0] // self.beams, self.beams, *x.shape[1:]))


def _split(state: Any) -> tuple[Any, dict[str, Any]]:
    if not isinstance(state, dict):
        return state, {}
    shared = {name: state[name] for name in SHARED if name in state}
    return {name: part for name, part in state.items() if name not in shared}, shared


def repeated_rows(state: Any, beams: int) -> Any:
    """Return the state as `step` reads it, with a row for each of so many beams of a study."""
    own, shared = _repeated(state, beams)
    return {**map_structure(_flat, own), **shared}


def _repeated(state: Any, beams: int) -> tuple[Any, dict[str, Any]]:
    """Repeat the state of each study for its beams; return both parts as `_split` does."""

    def repeat(tree: Any, axis: int) -> Any:
        return map_structure(lambda x: ops.repeat(x, beams, axis=axis), tree)

    ops = array_namespace(state)
    own, shared = _split(state)
    if "past" in shared:
        shared["past"], own["lineage"] = repeat(shared["past"], 2), repeat(own["lineage"], 1)
    own = map_structure(lambda x: x[:, None], own)
    return repeat(own, 1), shared


def _flat(x: Any) -> Any:
    # (B, K, ...) to (B * K, ...)
    return array_namespace(x).reshape(x, (x.shape[0] * x.shape[1], *x.shape[2:]))


def _choose(tree: Any, places: Any) -> Any:
    """Return places (B, K) of leaves (B, M) or (B, M, T)."""
    ops = array_namespace(places)

    def chosen(x: Any) -> Any:
        (studies, most), rest = x.shape[:2], x.shape[2:]
        rows = ops.arange(studies)[:, None] * most + places  # whole rows are quick to copy
        return ops.take(ops.reshape(x, (studies * most, *rest)), rows, axis=0)

    return map_structure(chosen, tree)
