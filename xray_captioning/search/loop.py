"""The loop every search runs: a whole batch a step, until every study is done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from xray_captioning.backend import keras, ops

Step = Callable[[Any, Any], tuple[Any, Any]]
Carried = dict[str, Any]

_SHRINK_FROM = 64  # studies; a smaller batch gains less than its second loop costs to compile
_SHRINK_TO = 4  # a quarter


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
    gains : tensor, shape (batch, beams, time), float32
        Natural logarithm of each token's probability given those before it; zeros after the end.
    attention : tensor, shape (batch, time, regions), float32
        Where the decoder looked for each token of the best caption, what its state holds as
        ``"attention"``; it means nothing after the end. Zero regions where it does not attend.
    """

    tokens: Any
    log_probabilities: Any
    scores: Any
    gains: Any
    attention: Any


def run_until_done(
    advance: Callable[[Any, Carried], tuple[Any, Carried]], carried: Carried, maximum_length: int
) -> Carried:
    """Repeat a step until every study is done, or the captions are as long as they may be.

    Of a large batch the last quarter goes on alone, so that a few long captions do not hold it.

    Parameters
    ----------
    advance : callable
        ``advance(time, carried) -> time + 1, carried``, for any number of studies.
    carried : dict of nested tensors
        Every leaf has a leading batch axis; ``"done"`` is (batch,) bool. What is under
        ``"state"`` is not given back.
    maximum_length : int

    Returns
    -------
    dict of tensors
    """

    def more_than(few: int) -> Callable[[Any, Carried], Any]:
        def going(time: Any, carried: Carried) -> Any:
            unfinished = ops.sum(ops.cast(ops.logical_not(carried["done"]), "int32"))
            return ops.logical_and(time < maximum_length, unfinished > few)

        return going

    batch = carried["done"].shape[0]
    few = batch // _SHRINK_TO if batch >= _SHRINK_FROM else 0
    time = ops.convert_to_tensor(0, "int32")
    time, carried = ops.while_loop(more_than(few), advance, (time, carried))
    state = carried.pop("state")
    if not few:
        return carried
    rows = ops.argsort(ops.cast(carried["done"], "int32"))[:few]  # the unfinished come first
    last = keras.tree.map_structure(
        lambda x: ops.take(x, rows, axis=0), {**carried, "state": state}
    )
    _, last = ops.while_loop(more_than(0), advance, (time, last))
    del last["state"]

    def put_back(whole: Any, part: Any) -> Any:
        # TensorFlow refuses to write nothing into nothing: a decoder that attends to no region.
        return ops.scatter_update(whole, rows[:, None], part) if 0 not in whole.shape else whole

    return keras.tree.map_structure(put_back, carried, last)


def attention_of(state: Any, token: Any) -> Any:
    """Return where a decoder just looked, (rows, regions), for the tokens (rows,) it read."""
    if isinstance(state, dict) and "attention" in state:
        return ops.cast(state["attention"], "float32")
    return ops.zeros((token.shape[0], 0), dtype="float32")
