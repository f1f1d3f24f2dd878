"""The only door to Keras, and the only place that asks which backend runs. It changes nothing of the process: no
environment variable, file descriptor, logger or random state, and of glibc's memory only what training needs
(`kept_memory`); a program may ask for silence (`files.load_as_program`).
"""

import contextlib
import ctypes
import functools
import itertools
import os
import random
from collections.abc import Callable, Iterator
from typing import Any

from xray_captioning.errors import ConfigError
from xray_captioning.files import while_loading

# glibc's M_MMAP_MAX, a count, without which arrays above 32 MiB are mapped anew in each step, M_MMAP_THRESHOLD,
# M_TRIM_THRESHOLD and M_TOP_PAD, in bytes; and afterwards what glibc comes to by itself where arrays are large
KEPT_MEMORY = {-4: 0, -3: 1 << 25, -1: 2**31 - 1, -2: 1 << 26}
FREED_MEMORY = {-4: 1 << 16, -1: 1 << 26, -2: 1 << 17}
TUNED = ("mmap_max", "mmap_threshold", "trim_threshold", "top_pad")  # as MALLOC_..._ and GLIBC_TUNABLES call them

__all__ = ["compiled", "keras", "ops", "registered", "scan", "seeded", "traced"]

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


def _devices() -> list[str]:
    """Return what a batch can be divided among: all GPUs, or all devices if there is none."""
    return list(keras.distribution.list_devices()) if keras.backend.backend() in ("tensorflow", "jax") else []


def describe_devices() -> str:
    """Return what models are computed on, and its memory."""
    if not (devices := _devices()):
        return f"the devices of {keras.backend.backend()}"
    kind, size = devices[0].partition(":")[0].upper(), 0
    if kind == "CPU":
        what = f"{os.cpu_count()} CPU cores"
        if hasattr(os, "sysconf"):  # not on Windows
            size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    elif keras.backend.backend() == "jax":
        import jax

        device = jax.local_devices()[0]
        what, size = f"{len(devices)} {device.device_kind}", (device.memory_stats() or {}).get("bytes_limit", 0)
    else:
        from tensorflow.python.client import device_lib  # the only one that knows its memory

        device = next(d for d in device_lib.list_local_devices() if d.device_type == kind)
        name = device.physical_device_desc.partition("name: ")[2].partition(",")[0]
        what, size = f"{len(devices)} {name or kind}", device.memory_limit
    return f"{what} with {size / 2**30:.1f} GiB" if size else what


@contextlib.contextmanager
def kept_memory() -> Iterator[None]:
    """Let glibc keep the memory that a step frees for the next one, instead of handing it to the system, which gives it
    back page by page, each filled with zeros. Elsewhere, or where the environment tunes this, nothing changes.
    """
    told = " ".join((*os.environ, os.environ.get("GLIBC_TUNABLES", ""))).lower()
    if not hasattr(ctypes.pythonapi, "mallopt") or any(name in told for name in TUNED):
        yield
        return
    option = ctypes.pythonapi.mallopt
    try:
        list(itertools.starmap(option, KEPT_MEMORY.items()))
        yield
    finally:
        list(itertools.starmap(option, FREED_MEMORY.items()))
        ctypes.pythonapi.malloc_trim(0)


@contextlib.contextmanager
def training_scope(devices: str, precision: str) -> Iterator[bool]:
    """Divide the batches of models that are made and fitted here among ``all`` devices, or leave them to one, and
    let layers that are made here compute in float32 or bfloat16. Weights are float32 and the same on all devices.
    Yielded is whether models that were made elsewhere have to be copied to be fitted here.
    """
    names = _devices() if devices == "all" else ["one"]
    if not names:
        raise ConfigError(f"{keras.backend.backend()} trains on one device here; take TensorFlow or JAX")
    scope: Any = contextlib.nullcontext()
    if len(names) > 1 and keras.backend.backend() == "tensorflow":
        scope = _mirrored(tuple(names)).scope()
    elif len(names) > 1:
        scope = keras.distribution.DataParallel(devices=names).scope()
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bfloat16" else precision)
    try:
        with scope, kept_memory():
            yield len(names) > 1 or precision != "float32"
    finally:
        keras.config.set_dtype_policy(before)


@functools.cache  # TensorFlow takes the sums of a second one for those of the first
def _mirrored(names: tuple[str, ...]) -> Any:
    return tensorflow().distribute.MirroredStrategy(names)


def device_count() -> int:
    """Return how many devices share a batch."""
    several = keras.distribution.distribution()
    return int(several.device_mesh.devices.size) if several else replicas()


def replicas() -> int:
    """Return how many devices have a step of their own; an array of JAX is that of all devices."""
    here = keras.backend.backend() == "tensorflow"
    return int(tensorflow().distribute.get_strategy().num_replicas_in_sync) if here else 1


def summed(gradients: list[Any]) -> list[Any]:
    """Return each device's gradients summed over these devices."""
    tf = tensorflow()
    # Words of a batch, whose number differs, would be gathered; that ends in a deadlock.
    whole = [tf.convert_to_tensor(gradient) for gradient in gradients]
    return list(tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, whole))


def compiled(function: Callable[..., Any], model: Any, fused: bool = False) -> Callable[..., Any]:
    """Compile a function of nested tensors, once for every shape it meets. `model` owns every variable that it
    reads; later changes of its weights take effect. `fused` lets XLA make one program of it under TensorFlow, too,
    which pays for many small operations, as of a search, and not for the convolutions of an encoder on a CPU.
    """
    if keras.backend.backend() == "tensorflow":
        # No Python `if` or loop over tensors here, so nothing to rewrite: tracing the first search
        # takes a third of the time.
        return tensorflow().function(function, autograph=False, jit_compile=fused or None)
    if keras.backend.backend() != "jax":
        return function
    # jax.jit over a closure bakes the weights in: they must be arguments.
    import jax

    @jax.jit
    def stateless(values: list[Any], *args: Any) -> Any:
        with keras.StatelessScope(state_mapping=list(zip(model.variables, values))):
            return function(*args)

    return lambda *args: stateless([v.value for v in model.variables], *args)


def traced(function: Callable[..., Any], inputs: dict[str, tuple[str, Any]]) -> Any:
    """Return a TensorFlow function, for an exporter, of tensors by name with data type and shape (None is any)."""
    if keras.backend.backend() != "tensorflow":
        raise ConfigError("graphs are exported by TensorFlow; set KERAS_BACKEND=tensorflow")
    tf = tensorflow()
    specs = [tf.TensorSpec(shape, kind, name=name) for name, (kind, shape) in inputs.items()]
    return tf.function(function, input_signature=specs, autograph=False)


def scan(step: Callable[..., Any], state: Any, inputs: Any, counts: Any = None, reverse: bool = False) -> Any:
    """Return the last state and the stacked y of ``step(state, [x, ...]) -> state, [y, ...]``, as `keras.ops.scan`; but
    y need not be like the state, and no gradients flow. With `counts` (time,), for TensorFlow without XLA, a step has
    so many rows of inputs (rows, ...) and of the state, whose new ones are zero.
    """
    if keras.backend.backend() != "tensorflow":
        return ops.scan(step, state, inputs, reverse=reverse)
    tf, packed = tensorflow(), counts is not None
    length = tf.shape(counts if packed else inputs[0])[0]
    ends: Any = tf.cumsum(counts) if packed else None

    def fitted(x: Any, rows: Any) -> Any:
        return tf.pad(x[:rows], [(0, rows - tf.shape(x[:rows])[0]), *[(0, 0)] * (len(x.shape) - 1)])

    def at(i: Any, state: Any) -> Any:
        i = length - 1 - i if reverse else i
        if not packed:
            return i, *step(state, [x[i] for x in inputs])
        state = tf.nest.map_structure(lambda x: fitted(x, counts[i]), state)
        return i, *step(state, [x[ends[i] - counts[i] : ends[i]] for x in inputs])

    def body(i: Any, state: Any, arrays: Any) -> Any:
        place, state, made = at(i, state)
        return i + 1, state, [array.write(place, y) for array, y in zip(arrays, made)]

    place, state, made = at(0, state)
    arrays = []
    for y in made:
        kind = {"element_shape": [None, *y.shape[1:]] if packed else y.shape, "infer_shape": False}
        arrays.append(tf.TensorArray(y.dtype, length, **kind).write(place, y))
    # One step after the other: a step's own work, done ahead of its turn, would fill the memory.
    begin: Any = (lambda i, *_: i < length, body, (1, state, arrays))
    _, state, arrays = tf.while_loop(*begin, parallel_iterations=1)
    return state, [array.concat() if packed else array.stack() for array in arrays]


def gradient(function: Callable[..., Any], model: Any) -> Callable[..., Any]:
    """Compile the gradient of a function's number with respect to its first argument, an array."""
    if keras.backend.backend() == "jax":
        import jax

        return compiled(jax.grad(function), model)

    def found(x: Any, *given: Any) -> Any:
        x = ops.convert_to_tensor(x)
        with tensorflow().GradientTape() as tape:
            tape.watch(x)
            number = function(x, *given)
        return tape.gradient(number, x)

    return compiled(found, model)


def shapes_vary(model: Any) -> bool:
    """Say whether shapes in a fitted model may depend on values; under XLA they may not."""
    return keras.backend.backend() == "tensorflow" and model.compiled and not model.jit_compile


def streamed(data: Any) -> Any:
    """Return batches of a Keras dataset as fitted models are to read them."""
    # The thread with which TensorFlow tunes what Keras makes of them is now and then not woken when an epoch ends, and
    # is waited for: as long as the epoch took, a minute at most. Batches are prepared ahead without it.
    if keras.backend.backend() != "tensorflow" or not isinstance(data, keras.utils.PyDataset) or not len(data):
        return data
    tf, count = tensorflow(), len(data)

    def described(first: Any, second: Any) -> Any:
        axes = (n if n == m else None for n, m in zip(first.shape[1:], second.shape[1:]))
        return tf.TensorSpec([None, *axes], first.dtype)

    known = keras.tree.map_structure(described, data[0], data[min(1, count - 1)])
    found = tf.data.Dataset.from_generator(lambda: (data[i] for i in range(count)), output_signature=known)
    options = tf.data.Options()
    options.autotune.enabled = False
    return found.apply(tf.data.experimental.assert_cardinality(count)).prefetch(1).with_options(options)


def tensorflow() -> Any:
    """Return TensorFlow, where it is the backend, for what Keras has no operation of."""
    import tensorflow as tf

    return tf
