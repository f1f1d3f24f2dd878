"""A network in parts, one behind the other: trained from one on, or computed again on the way back."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from xray_captioning.backend import keras
from xray_captioning.errors import ConfigError


def cut(encoder: Any, name: str) -> tuple[Any, Any]:
    """Return a backbone as two networks, the second from the first layer on whose name begins so, or a ConfigError."""
    # It is one where there is no such layer, nothing is before it, or more than one tensor leads past it.
    network, block = encoder.backbone, encoder.row.last_block
    first = next((layer for layer in network.layers if layer.name.startswith(name)), None)
    for _, seam in _seams(network):
        if first is not None and seam is first.input:
            lower, upper = keras.Model(network.input, seam), keras.Model(seam, network.output)
            if lower.weights:
                return lower, upper
    advice = "name the first layer of a block" + (f", such as {block[0]}" if block else "")
    raise ConfigError(f"the encoder {encoder.name_of_backbone} cannot be cut before {name!r}; {advice}")


def checkpointed(network: Any, change: Callable[[Any], Any]) -> Callable[..., Any]:
    """Return what computes as a network, and keeps nothing for the way back but what leads from part to part."""
    # There are as many parts as a part has steps, where that can be (Chen et al., arXiv:1604.06174). Each is changed.
    if not (seams := _seams(network)):
        raise ConfigError(f"{network.name} has no parts one behind the other; leave out encoder_training.checkpointing")
    ends, last, steps = [network.input], 0, math.isqrt(seams[-1][0])
    for step, seam in seams:
        if step - last >= steps:
            ends, last = [*ends, seam], step
    parts = [change(keras.Model(*both)) for both in pairwise([*ends, network.output])]

    def compute(x: Any, training: bool | None = None) -> Any:
        for part in parts:
            x = _computed_twice(part, x, training)
        return x

    return compute


def _seams(network: Any) -> list[tuple[int, Any]]:
    """Return each tensor through which everything passes, with its step; none in what is no graph of layers."""
    graph: dict[int, list[Any]] = getattr(network, "_nodes_by_depth", {})
    nodes = [node for _, some in sorted(graph.items(), reverse=True) for node in some]
    last_read = {id(tensor): step for step, node in enumerate(nodes) for tensor in node.input_tensors}
    found, reach = [], 0  # the last step that reads what came before
    for step, node in enumerate(nodes[:-1]):
        if reach <= step:
            found.append((step, node.output_tensors[0]))
        reach = max(reach, *(last_read.get(id(tensor), 0) for tensor in node.output_tensors))
    return found


def _computed_twice(part: Any, x: Any, training: bool | None) -> Any:
    weights, others = part.trainable_variables, part.non_trainable_variables

    def pure(x: Any, *values: Any) -> Any:  # or statistics would be moved both times
        given = list(values[: len(weights)]), list(values[len(weights) :])
        y, new = part.stateless_call(*given, x, training=training)
        return (y, *new)

    y, *new = keras.remat(pure)(x, *(variable.value for variable in [*weights, *others]))
    for variable, value in zip(others, new):
        variable.assign(value)
    return y
