"""A captioner whose networks are exported graphs, so that neither Keras nor TensorFlow is needed: docs/runtime.md."""

from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from xray_captioning.data.features import Array, Features
from xray_captioning.errors import BundleError, one_error, require
from xray_captioning.files import load_onnxruntime

Arrays = dict[str, Array]
Graph = Callable[..., Arrays]
Opened = tuple[list[set[str]], Callable[[Arrays], list[Array]]]  # the names of each of its outputs, and what runs it
# Of the file of a graph, or its folder, by format.
SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "litert": ".tflite", "saved_model": ""}
BATCH = 4  # images at a time, on a thread and a processor of their own: quicker than more on several


def _onnxruntime(path: Path, outputs: list[str], precision: str) -> Opened:
    runtime = load_onnxruntime("exported bundles", "runtime")
    options = runtime.SessionOptions()
    options.log_severity_level = 4  # what is wrong is said by errors
    options.intra_op_num_threads = 1  # `BATCH`
    session = runtime.InferenceSession(str(path), options, providers=runtime.get_available_providers())
    return [{one.name} for one in session.get_outputs()], lambda arrays: session.run(outputs, arrays)


def _openvino(path: Path, outputs: list[str], precision: str) -> Opened:
    # Without it OpenVINO takes bfloat16 by itself where it can.
    kind = {"INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32"}
    settings = {**kind, "PERFORMANCE_HINT": "THROUGHPUT"}  # `BATCH`
    model = require("openvino", "exported bundles", "openvino").Core().compile_model(str(path), "CPU", settings)

    def run(arrays: Arrays) -> list[Array]:
        request = model.create_infer_request()  # one of its own for every thread
        request.infer(arrays)
        return [request.get_tensor(name).data.copy() for name in outputs]

    return [port.names for port in model.outputs], run


def _litert(path: Path, outputs: list[str], precision: str) -> Opened:
    interpreter = require("ai_edge_litert.interpreter", "exported bundles", "litert").Interpreter
    signature, one = interpreter(str(path)).get_signature_runner(), Lock()

    def run(arrays: Arrays) -> list[Array]:
        with one:
            found = signature(**arrays)
        return [found[name] for name in outputs]

    return [{name} for name in signature.get_output_details()], run


def _saved_model(path: Path, outputs: list[str], precision: str) -> Opened:
    tensorflow = require("tensorflow", "exported bundles", "litert")
    model = tensorflow.saved_model.load(str(path))
    signature = model.signatures["serving_default"]

    def run(arrays: Arrays) -> list[Array]:
        assert model  # which owns what the signature reads; its parameters' names have no dots
        found = signature(**{name.replace(".", "_"): tensorflow.constant(array) for name, array in arrays.items()})
        return [found[name].numpy() for name in outputs]

    return [{name} for name in signature.structured_outputs], run


# What runs graphs of a format, the first by default.
RUNTIMES = {"onnx": {"onnx": _onnxruntime, "openvino": _openvino}, "openvino": {"openvino": _openvino}}
RUNTIMES |= {"litert": {"litert": _litert}, "saved_model": {"saved_model": _saved_model}}


def open_graph(path: Path, run: Any, outputs: list[str], precision: str) -> Graph:
    """Return an exported network as a function: arrays by name in, arrays by name out."""
    advice = f"{path}: cannot be run ({{error}}); export the bundle again"
    with one_error(BundleError, advice):
        named, call = run(path, outputs, precision)
        if len(named) != len(outputs) or not set(outputs) <= set().union(*named):
            raise ValueError("its outputs are not those in captioner.json")
    return one_error(BundleError, advice)(lambda **arrays: dict(zip(outputs, call(arrays), strict=True)))


def leaves(tree: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of a state with their dotted names: ``past.0.1``."""
    if not isinstance(tree, (dict, list, tuple)):
        yield name, tree
        return
    for key, part in tree.items() if isinstance(tree, dict) else enumerate(tree):
        yield from leaves(part, f"{name}.{key}" if name else str(key))


def nested(named: dict[str, Any]) -> Any:
    """Return the state with these leaves; where all names of a level are numbers, it is a list."""
    parts: dict[str, Any] = {}
    for name, leaf in named.items():
        first, _, rest = name.partition(".")
        if rest:
            parts.setdefault(first, {})[rest] = leaf
        else:
            parts[first] = leaf
    found = {key: nested(part) if isinstance(part, dict) else part for key, part in parts.items()}
    return list(found.values()) if all(key.isdigit() for key in found) else found


def _given(regions: Any, mask: Any) -> Arrays:
    return {"regions": np.asarray(regions, "float32"), "mask": np.asarray(mask, bool)}


class GraphEncoder:
    """What a captioner asks of an encoder."""

    trained_on = None

    def __init__(self, graphs: dict[str, Graph], about: dict[str, Any]) -> None:
        self.findings, self.grid = tuple(about["findings"]), tuple(about["grid"])
        self.channels: int = about["export"]["channels"]
        self._graphs = graphs
        if "activation" in about["export"]["graphs"].get("classifier", {}).get("outputs", ()):
            self.activation: Any = lambda regions, mask: graphs["classifier"](**_given(regions, mask))["activation"]

    def encode(self, images: Array) -> Array:
        """Return maps (batch, rows, columns, channels) of images (batch, height, width, 3)."""
        return self._graphs["encoder"](images=images)["maps"]

    def probabilities(self, regions: Array, mask: Array) -> Array:
        """Return the probability of each finding, (studies, findings)."""
        return self._graphs["classifier"](**_given(regions, mask))["probabilities"]


class GraphModel:
    """What a search asks of a head and decoder."""

    trained_on: Any = None

    def __init__(self, start: Graph, step: Graph) -> None:
        self._start, self._step = start, step

    def start(self, features: Features, context: Any = None) -> Any:
        """Return the state before the first token."""
        return nested(self._start(**_given(*features), **({} if context is None else {"context": context})))["state"]

    def step(self, token: Array, state: Any) -> tuple[Array, Any]:
        """Return logits and the next state; what has not changed are the same arrays."""
        before = dict(leaves(state, "state"))
        found = self._step(token=token, **before)
        logits = found.pop("logits")
        changed = {f"state{name.removeprefix('next')}": leaf for name, leaf in found.items()}
        return logits, nested({**before, **changed})["state"]


def open_graphs(folder: Path, values: dict[str, Any], runtime: str | None = None) -> tuple[GraphEncoder, GraphModel]:
    """Return the networks of a folder, of which ``captioner.json`` has these values."""
    # `runtime` is one that the format of the graphs has, or else the first.
    export = values["export"]
    form, suffix = RUNTIMES[export["format"]], SUFFIXES[export["format"]]
    run = form[runtime or next(iter(form))]
    # A decoder takes little time, and what it rounds would add up from word to word.
    kinds = {"encoder": export.get("precision", "float32")}
    graphs = {
        name: open_graph(folder / f"{name}{suffix}", run, list(graph["outputs"]), kinds.get(name, "float32"))
        for name, graph in export["graphs"].items()
    }
    if values["findings"] and "classifier" not in graphs:
        raise BundleError(f"{folder}: has findings and no classifier; export the bundle again")
    return GraphEncoder(graphs, values), GraphModel(graphs["start"], graphs["step"])
