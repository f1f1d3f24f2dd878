"""The loop of every search: one step of the whole batch at a time, until all studies are done."""

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
    """Captions of a batch, best first."""

    tokens: Any  # (batch, beams, time) int32: no start token, only zeros after the end token
    log_probabilities: Any  # (batch, beams) float32, natural logarithm, end token included
    scores: Any  # (batch, beams) float32: their order; the above, length-normalised if asked
    gains: Any  # (batch, beams, time) float32: of each token given those before; 0 after the end
    # (batch, time, regions) float32: weight of each region for each token of the best caption, from
    # "attention" in the decoder's state; after the end without meaning. No regions: no attention.
    attention: Any


def run_until_done(
    advance: Callable[[Any, Carried], tuple[Any, Carried]], carried: Carried, maximum_length: int
) -> Carried:
    """Repeat a step until every study is done, or the captions are as long as they may be.

    When three quarters of a large batch are finished, the loop continues with the unfinished
    studies alone, so that a few long captions do not cost a step of the whole batch each.

    The step is ``advance(time, carried) -> time + 1, carried``, for any number of studies. Every
    leaf of ``carried`` has a leading batch axis; ``"done"`` is (batch,) bool. The ``"state"`` is
    not part of the result.
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
    whole = {**carried, "state": state}
    last = keras.tree.map_structure(lambda x: ops.take(x, rows, axis=0), whole)
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
