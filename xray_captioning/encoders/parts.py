"""A network as it is trained: in parts, from one of them on, or each computed again on the way back; or `lean`.

Keras makes batch normalisation of a dozen operations in float32, each of which reads or keeps a whole feature map. In
`lean` it is one, with the ReLU and the convolution behind it a step that keeps its input alone: what the convolution
was given is computed again on the way back (Pleiss et al., arXiv:1707.06990).
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from xray_captioning.backend import keras, registered, tensorflow
from xray_captioning.errors import ConfigError

layers = keras.layers


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


def lean(network: Any) -> Any:
    """Return a network of the same variables with such steps, or itself if it is of a class of its own."""
    if not hasattr(network, "_nodes_by_depth"):
        return network
    steps: dict[int, Any] = {}
    done: set[int] = set()  # layers within a step
    for layer in network.layers:
        if type(layer) is layers.BatchNormalization and _can_be_fused(layer):
            relu = _next(layer, network, _is_relu)
            convolution = relu and _next(relu, network, _is_plain)
            steps[id(layer)] = _Step(layer, relu is not None, convolution)
            done |= {id(relu), id(convolution)}

    def called(layer: Any, *given: Any, **options: Any) -> Any:
        return given[0] if id(layer) in done else layer(*given, **options)

    return keras.models.clone_model(network, clone_function=lambda x: steps.get(id(x), x), call_function=called)


def _next(layer: Any, network: Any, wanted: Callable[[Any], bool]) -> Any:
    """Return the only layer that reads another's output, if it is a wanted one."""
    own = {node for nodes in network._nodes_by_depth.values() for node in nodes}
    found = [node.operation for node in layer._outbound_nodes if node in own]
    if len(found) != 1 or any(layer.output is output for output in network.outputs) or not wanted(found[0]):
        return None
    calls = [node for node in found[0]._inbound_nodes if node in own]
    return found[0] if len(calls) == 1 and found[0].dtype_policy == layer.dtype_policy else None


def _can_be_fused(norm: Any) -> bool:
    own = norm.center and not (getattr(norm, "renorm", False) or norm.synchronized)
    known = norm.compute_dtype in ("float32", "bfloat16") and norm.input_spec.ndim == 4
    return own and known and norm.axis in (-1, 3)


def _is_relu(layer: Any) -> bool:
    if isinstance(layer, layers.ReLU):
        return layer.max_value is None and not (layer.negative_slope or layer.threshold)
    return isinstance(layer, layers.Activation) and layer.activation is keras.activations.relu


def _is_plain(layer: Any) -> bool:
    linear = type(layer) is layers.Conv2D and layer.activation is keras.activations.linear
    return linear and layer.groups == 1 and not layer.use_bias and layer.data_format == "channels_last"


@registered
class _Step(keras.Layer):
    """Batch normalisation, the ReLU behind it and the convolution behind that, where they are."""

    def __init__(self, norm: Any, relu: bool, convolution: Any) -> None:
        super().__init__(name=norm.name, dtype=norm.dtype_policy)
        self.norm, self.relu, self.convolution, self.built = norm, relu, convolution, True

    def compute_output_spec(self, x: Any, **_: Any) -> Any:
        shape = self.convolution.compute_output_shape(x.shape) if self.convolution else x.shape
        return keras.KerasTensor(shape, self.compute_dtype)

    def call(self, x: Any, training: bool | None = None, mask: Any = None) -> Any:
        tf, norm = tensorflow(), self.norm
        learns = bool(training and norm.trainable)
        kernel = [tf.cast(self.convolution.kernel.value, x.dtype)] if self.convolution else []
        gain = norm.gamma.value if norm.scale else tf.ones(x.shape[-1])
        y, mean, variance = tf.custom_gradient(self._step(tf, learns))(x, gain, norm.beta.value, *kernel)
        if learns:
            for variable, new in ((norm.moving_mean, mean), (norm.moving_variance, variance)):
                variable.assign(variable * norm.momentum + new * (1 - norm.momentum))
        return y

    def _step(self, tf: Any, learns: bool) -> Callable[..., Any]:
        raw, given = tf.raw_ops, {"epsilon": self.norm.epsilon}
        own = [] if learns else self.norm.moving_mean.value, [] if learns else self.norm.moving_variance.value
        if conv := self.convolution:
            sizes = {"strides": [1, *conv.strides, 1], "dilations": [1, *conv.dilation_rate, 1]}
            sizes["padding"] = conv.padding.upper()

        def normalised(x: Any, gain: Any, shift: Any, known: Any, learns: bool) -> Any:
            options = {"mean": known[0], "variance": known[1], "is_training": learns, **given}
            y, *found = raw.FusedBatchNormV3(x=x, scale=gain, offset=shift, **options)
            return tf.nn.relu(y) if self.relu else y, found

        def step(x: Any, gain: Any, shift: Any, *kernel: Any) -> Any:
            y, (mean, variance, *kept) = normalised(x, gain, shift, own, learns)
            if learns:
                count = tf.cast(tf.size(x) / x.shape[-1], "float32")
                variance *= (count - 1) / count  # of these numbers, as Keras has it, and not of all
            else:
                kept[:2] = own  # TensorFlow keeps nothing but in training
            known = (mean, variance) if learns else own  # a GPU keeps another than the variance
            y = raw.Conv2D(input=y, filter=kernel[0], **sizes) if kernel else y

            def back(d: Any, *_: Any) -> list[Any]:
                more = []
                if self.relu:
                    with tf.control_dependencies([d]):  # or it would be computed at once, and kept
                        y, _ = normalised(tf.identity(x), gain, shift, known, False)
                    if kernel:
                        shape = tf.shape(kernel[0])
                        more = [raw.Conv2DBackpropFilter(input=y, filter_sizes=shape, out_backprop=d, **sizes)]
                        d = raw.Conv2DBackpropInput(input_sizes=tf.shape(y), filter=kernel[0], out_backprop=d, **sizes)
                    d = raw.ReluGrad(gradients=d, features=y)
                spaces = {f"reserve_space_{i}": space for i, space in enumerate(kept, 1)}
                options = {"scale": gain, "is_training": learns, **spaces, **given}
                return [*raw.FusedBatchNormGradV3(y_backprop=d, x=x, **options)[:3], *more]

            return (y, mean, variance), back

        return step
