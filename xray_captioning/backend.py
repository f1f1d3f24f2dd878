"""The only door to Keras, and the only place that asks which backend runs.

Importing TensorFlow writes notices to file descriptor 2 whatever the environment says, and more
when the first operation looks for a GPU, so the descriptor is silenced for just that long.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["compiled", "keras", "ops", "registered"]


@contextlib.contextmanager
def _silenced_stderr() -> Iterator[None]:
    sys.stderr.flush()
    saved = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


# TensorFlow's later notices do heed this.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
with _silenced_stderr():
    import keras
    from keras import ops

    ops.convert_to_numpy(ops.zeros(()) + 1)


# The decorator of every layer, model and loss: Keras then finds its class in a ``.keras`` file.
registered = keras.saving.register_keras_serializable("xray_captioning")


def compiled(function: Callable[..., Any], model: Any, fused: bool = False) -> Callable[..., Any]:
    """Compile a function of nested tensors, once for every shape it meets.

    Parameters
    ----------
    function : callable
    model : keras.Model
        Owner of every variable that ``function`` reads. Later changes of its weights take effect.
    fused : bool
        Let XLA make one program of it under TensorFlow, too, as JAX always does. That pays for
        many small operations, as of a search; it takes longer to compile, and the convolutions
        of an encoder gain nothing from it on a CPU.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        # A few batch sizes are compiled on purpose; it would warn of that.
        tf.get_logger().setLevel("ERROR")
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
