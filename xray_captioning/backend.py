"""The only door to Keras, and the only place that asks which backend runs.

Nothing of the process is changed here: no environment variable, file descriptor, logger or random
state. A program that is its own process, as the command line is, may ask for silence
(:func:`xray_captioning.files.load_quietly`).
"""

import contextlib
import random
from collections.abc import Callable, Iterator
from typing import Any

from xray_captioning.files import while_loading

__all__ = ["compiled", "keras", "ops", "registered", "seeded"]

with while_loading() as quiet:
    import keras
    from keras import ops

    if quiet:
        ops.convert_to_numpy(ops.zeros(()) + 1)  # looks for a GPU


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Let what is made in this context depend on a seed, and put Python's random state back."""
    # Keras draws the seed of every initializer and dropout layer that is not given one from it;
    # `keras.utils.set_random_seed` would seed NumPy and TensorFlow for good, too.
    before = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(before)


# The decorator of every layer, model and loss: Keras then finds its class in a ``.keras`` file.
registered = keras.saving.register_keras_serializable("xray_captioning")


def compiled(function: Callable[..., Any], model: Any, fused: bool = False) -> Callable[..., Any]:
    """Compile a function of nested tensors, once for every shape it meets.

    `model` owns every variable that it reads; later changes of its weights take effect. `fused`
    lets XLA make one program of it under TensorFlow, too, as JAX always does. That pays for many
    small operations, as of a search; it takes longer to compile, and the convolutions of an encoder
    gain nothing from it on a CPU.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        # No Python `if` or loop over tensors here, so nothing to rewrite: tracing the first search
        # takes a third of the time.
        return tf.function(function, autograph=False, jit_compile=fused or None)
    if keras.backend.backend() == "jax":
        return _jitted(function, model)
    return function


def _jitted(function: Callable[..., Any], model: Any) -> Callable[..., Any]:
    # jax.jit over a closure bakes the weights in: they must be arguments.
    import jax

    @jax.jit
    def stateless(values: list[Any], *args: Any) -> Any:
        with keras.StatelessScope(state_mapping=list(zip(model.variables, values))):
            return function(*args)

    return lambda *args: stateless([v.value for v in model.variables], *args)
