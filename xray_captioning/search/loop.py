"""The loop of every search: one step of the whole batch at a time, until all studies are done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from xray_captioning.backend import keras, ops

Step = Callable[[Any, Any], tuple[Any, Any]]
Carried = dict[str, Any]

# A batch of so many studies is reduced to its unfinished ones when only a quarter is left. In a
# smaller batch that gains less than the second loop costs to compile.
_SHRINK_FROM = 64
_SHRINK_DIVISOR = 4


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
        Weight of each region for each token of the best caption: what the decoder's state holds
        as ``"attention"``. Values after the end mean nothing. There are no regions where the
        decoder does not attend to any.
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

    When three quarters of a large batch are finished, the loop continues with the unfinished
    studies alone, so that a few long captions do not cost a step of the whole batch each.

    Parameters
    ----------
    advance : callable
        ``advance(time, carried) -> time + 1, carried``, for any number of studies.
    carried : dict of nested tensors
        Every leaf has a leading batch axis; ``"done"`` is (batch,) bool. The ``"state"`` is not
        part of the result.
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
    few = batch // _SHRINK_DIVISOR if batch >= _SHRINK_FROM else 0
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
        # TensorFlow cannot update an empty array: the attention of a decoder without any.
        return ops.scatter_update(whole, rows[:, None], part) if 0 not in whole.shape else whole

    return keras.tree.map_structure(put_back, carried, last)


def attention_of(state: Any, token: Any) -> Any:
    """Return a decoder's weights (rows, regions) of the step in which it read tokens (rows,)."""
    if isinstance(state, dict) and "attention" in state:
        return ops.cast(state["attention"], "float32")
    return ops.zeros((token.shape[0], 0), dtype="float32")
