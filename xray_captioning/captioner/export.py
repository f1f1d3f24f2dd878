"""Writes a captioner's networks as graphs that other programs run, and checks what was written."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from msgspec.structs import replace

from xray_captioning.backend import ops, traced
from xray_captioning.bundles.bundle import FEATURES, write_bundle, write_texts
from xray_captioning.captioner.evidence import class_activation
from xray_captioning.captioner.graphs import BATCH, SUFFIXES, GraphEncoder, GraphModel, leaves, nested, open_graphs
from xray_captioning.config import ImageConfig
from xray_captioning.data.encoding import as_array
from xray_captioning.data.features import Features
from xray_captioning.data.images import Image, normalise, read_images, scaling
from xray_captioning.encoders.saved import describe
from xray_captioning.errors import BundleError, ConfigError, require
from xray_captioning.files import load_onnxruntime
from xray_captioning.search.beam import repeated_rows
from xray_captioning.search.loop import map_structure

OPSET = 18  # of ONNX; onnxruntime has known it since 1.14
CLOSE = 1e-4  # the most by which an exported network may differ, of its largest number
# So does an encoder that computes in another precision; and the formats in which it can.
COARSE = {"float32": CLOSE, "bfloat16": 0.05, "int8": 0.3}
PRECISIONS = {"bfloat16": ("openvino",), "int8": ("onnx", "openvino")}
BEAMS = (1, 3)  # with which a step is compared
# Named axes have any length: of a step, rows are the beams of all studies, places those of a past.
Axes = tuple[str | int, ...]
Named = dict[str, Any]


class Network(NamedTuple):
    """A function of named tensors, and the axes of what it takes and returns."""

    function: Callable[[Named], Named]
    inputs: dict[str, tuple[str, Axes]]  # the data type, too
    outputs: dict[str, Axes]
    images: Any = None  # (images, height, width, 3), on which weights and values of 8 bits are calibrated

    def traced(self) -> Any:
        """Return a TensorFlow function of the inputs in their order, to the outputs by name."""

        def named(*values: Any) -> Named:
            found = self.function(dict(zip(self.inputs, values)))
            return {name: found[name] for name in self.outputs}

        def lengths(axes: Axes) -> list[int | None]:
            return [None if isinstance(axis, str) else axis for axis in axes]

        return traced(named, {name: (kind, lengths(axes)) for name, (kind, axes) in self.inputs.items()})


def export_captioner(
    captioner: Any,
    folder: Path,
    form: str = "onnx",
    precision: str = "float32",
    images: Sequence[Image] = (),
    bundle: str | None = None,
) -> None:
    """Write an exported folder, whole or not at all; `bundle` is the digest of the one it is of."""
    if form not in WRITERS:
        raise ConfigError(f"format is {form!r}; choose {' or '.join(WRITERS)}")
    if precision not in COARSE or form not in PRECISIONS.get(precision, WRITERS):
        forms = ", ".join(f"{name} of {' and '.join(some)}" for name, some in PRECISIONS.items())
        raise ConfigError(f"precision is {precision!r} of {form}; choose float32, {forms}")
    if (precision == "int8") != bool(images):
        raise ConfigError("images of the training are for int8, which is calibrated on them; give both or neither")
    if captioner.config.model.encoder == FEATURES:
        raise ConfigError("this captioner sees no images; one without encoder is not exported")
    if (folder / "encoder.weights.h5").exists():
        raise ConfigError(f"{folder}: holds a bundle; give another folder, such as export in it")
    existed = folder.exists()
    try:
        write_bundle(folder, lambda aside: _fill(aside, captioner, form, precision, images, bundle))
    except BaseException:
        if not existed:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _fill(aside: Path, captioner: Any, form: str, precision: str, images: Sequence[Image], bundle: str | None) -> None:
    networks, image = {**_encoder(captioner), **_decoder(captioner)}, captioner.config.image
    shown = read_images(images, image.size, image.resize) if images else None
    networks["encoder"] = networks["encoder"]._replace(images=shown)
    # The encoder's graph takes pixels as they are read, in [0, 1].
    config = replace(captioner.config, model=captioner.model.config)
    config = config.replace({"image.normalisation": "unit"})
    values = describe("captioner", config, captioner.encoder, captioner.about, captioner.identity.name)
    about = {"format": form, "bundle": bundle, "precision": precision, "normalisation": image.normalisation}
    graphs = {name: {"inputs": network.inputs, "outputs": network.outputs} for name, network in networks.items()}
    values["export"] = {**about, "channels": captioner.encoder.channels, "graphs": graphs}
    for name, network in networks.items():
        WRITERS[form](network, aside / f"{name}{SUFFIXES[form]}")
    write_texts(aside, values, captioner.tokenizer, captioner.calibration)
    _compare(captioner, *open_graphs(aside, values), shown, COARSE[precision])


def _features(captioner: Any) -> dict[str, tuple[str, Axes]]:
    regions, channels = captioner.model.features_shape[0][1:]
    axes: Axes = ("studies", regions, channels)
    return {"regions": ("float32", axes), "mask": ("bool", axes[:2])}


def _encoder(captioner: Any) -> dict[str, Network]:
    encoder, image = captioner.encoder, captioner.config.image
    networks = {
        "encoder": Network(
            lambda given: {"maps": encoder.encode(_normalised(given["images"], image))},
            {"images": ("float32", ("images", image.size, image.size, 3))},
            {"maps": ("images", *encoder.grid, encoder.channels)},
        )
    }
    if encoder.findings:
        known, findings = _features(captioner), len(encoder.findings)
        networks["classifier"] = Network(
            lambda given: {
                "probabilities": ops.sigmoid(encoder.classify(*given.values())),
                "activation": class_activation(encoder, given["regions"]),
            },
            known,
            {"probabilities": ("studies", findings), "activation": (*known["mask"][1], findings)},
        )
    return networks


def _normalised(images: Any, image: ImageConfig) -> Any:
    if image.normalisation == "unit":
        return images
    (mean, deviation), size = scaling(image.normalisation, image.size), image.size
    scaled = ops.reshape((ops.reshape(images, (-1, size, 3 * size)) - mean) / deviation, (-1, size, size, 3))
    return scaled[..., ::-1] if image.normalisation == "caffe" else scaled


def _decoder(captioner: Any) -> dict[str, Network]:
    model, known = captioner.model, _features(captioner)
    if model.context:
        known["context"] = "int32", ("studies", model.context, model.maximum_length)

    def start(given: Named) -> Named:
        return dict(leaves(model.start(Features(given["regions"], given["mask"]), given.get("context")), "state"))

    def step(given: Named) -> Named:
        named = nested(given)
        logits, after = model.step(named["token"], named["state"])
        return {"logits": logits, **dict(leaves(after, "next"))}

    # One step of one study tells the names and shapes of a state, and what of it a step changes.
    state = start({n: ops.ones((1, *axes[1:]), dtype=kind) for n, (kind, axes) in known.items()})
    after = step({"token": ops.ones((1,), dtype="int32"), **state})
    kinds = {name: np.dtype(as_array(leaf).dtype).name for name, leaf in state.items()}
    inputs = {name: (kinds[name], _axes(name, leaf.shape)) for name, leaf in state.items()}
    pairs = [(name, f"next{name.removeprefix('state')}") for name in state]
    changed = {new: inputs[old][1] for old, new in pairs if after[new] is not state[old]}
    given, outputs = (
        {"token": ("int32", ("rows",)), **inputs},
        {"logits": ("rows", after["logits"].shape[-1]), **changed},
    )
    first = Network(start, known, {n: ("studies", *x.shape[1:]) for n, x in state.items()})
    return {"start": first, "step": Network(step, given, outputs)}


def _axes(name: str, shape: Any) -> Axes:
    """Return the axes of a leaf of the state; `Decoder` says what its entries are."""
    part, rest = name.split(".")[1], [int(length) for length in shape[1:]]
    if part == "past":
        return "studies", rest[0], "places", rest[2]
    if part == "lineage":
        return "rows", "places"
    return "studies" if part == "study" else "rows", *rest


def _write_onnx(network: Network, path: Path) -> None:
    convert, function = require("tf2onnx", "exporting", "export").convert, network.traced()
    handlers: Named = {"Erfc": (_erfc, [])}
    model, _ = convert.from_function(function, function.input_signature, opset=OPSET, custom_op_handlers=handlers)
    graph, names = model.graph, {}
    for value, name in zip(graph.output, sorted(network.outputs), strict=True):
        names[value.name] = value.name = name
    nothing = {constant.name for constant in graph.initializer if list(constant.dims) == [0]}
    for node in graph.node:
        if node.op_type == "Unsqueeze" and node.input[1] in nothing:  # of an einsum
            node.op_type, node.input[:] = "Identity", node.input[:1]  # OpenVINO adds an axis
        for places in (node.input, node.output):
            places[:] = [names.get(name, name) for name in places]
    axes = {**{name: axes for name, (_, axes) in network.inputs.items()}, **network.outputs}
    for value in (*graph.input, *graph.output):
        for dimension, axis in zip(value.type.tensor_type.shape.dim, axes[value.name]):
            if isinstance(axis, str):
                dimension.dim_param = axis
    path.write_bytes(model.SerializeToString())
    if network.images is not None:
        quantise(path, network.images)


def quantise(path: Path, images: Any) -> None:
    """Rewrite a graph so that it computes with whole numbers of 8 bits, scaled by what images give."""
    load_onnxruntime("int8", "export")
    tools = require("onnxruntime.quantization", "int8", "export")
    parts = iter([{"images": images[i : i + BATCH]} for i in range(0, len(images), BATCH)])
    reader = type("Reader", (tools.CalibrationDataReader,), {"get_next": lambda _: next(parts, None)})()
    tools.shape_inference.quant_pre_process(path, path, skip_symbolic_shape=True)
    tools.quantize_static(path, path, reader, per_channel=True)


def _erfc(graph: Any, node: Any, name: str, _: Any) -> None:
    """Write TensorFlow's complementary error function, which ONNX lacks, as 1 - erf."""
    shapes, kinds = [graph.get_shape(node.output[0])], [graph.get_dtype(node.output[0])]
    source, outputs = node.input[0], node.output
    one = graph.make_const(f"{name}_one", np.array(1, "float32")).output[0]
    graph.remove_node(name)
    erf = graph.make_node("Erf", [source]).output[0]
    graph.make_node("Sub", [one, erf], outputs=outputs, name=name, shapes=shapes, dtypes=kinds)


def _write_openvino(network: Network, path: Path) -> None:
    openvino, whole = require("openvino", "exporting to OpenVINO", "openvino"), path.with_suffix(".onnx")
    _write_onnx(network, whole)
    openvino.save_model(openvino.convert_model(whole), path, compress_to_fp16=False)
    whole.unlink()


def _write_saved_model(network: Network, path: Path) -> None:
    function, tf = network.traced(), require("tensorflow", "exporting", "litert")
    module = tf.Module()
    module.kept = function.get_concrete_function().variables  # what is not kept is not saved
    tf.saved_model.save(module, str(path), signatures=function)


def _write_litert(network: Network, path: Path) -> None:
    # Of single steps: a whole recurrent layer would become a file that LiteRT cannot run.
    _write_saved_model(network, whole := path.with_suffix(""))
    tf = require("tensorflow", "exporting", "litert")
    path.write_bytes(tf.lite.TFLiteConverter.from_saved_model(str(whole)).convert())
    shutil.rmtree(whole)


WRITERS = {"onnx": _write_onnx, "openvino": _write_openvino, "litert": _write_litert, "saved_model": _write_saved_model}


def _compare(captioner: Any, exported: GraphEncoder, graphs: GraphModel, shown: Any, close: float) -> None:
    encoder, model, image = captioner.encoder, captioner.model, captioner.config.image
    shape = (2 * image.views, image.size, image.size, 3)
    pixels = np.random.default_rng(0).random(shape, "float32")
    pixels = pixels if shown is None else np.resize(shown, shape)
    maps = as_array(encoder.encode(normalise(pixels, image.normalisation)))
    _equal("encoder", exported.encode(pixels), maps, close)
    regions = maps.reshape(2, -1, maps.shape[-1])
    mask = np.ones(regions.shape[:2], bool)
    mask[1, regions.shape[1] // image.views :] = False  # one study has one view only
    features = Features(np.where(mask[..., None], regions, 0), mask)
    if encoder.findings:
        expected = encoder.probabilities(*features)
        _equal("classifier", exported.probabilities(*features), expected)
        _equal("classifier", exported.activation(*features), class_activation(encoder, features.regions))
    tokens = np.arange(2 * model.context * model.maximum_length, dtype="int32") % model.vocabulary_size
    context = tokens.reshape(2, model.context, -1) if model.context else None
    started = graphs.start(features, context)
    _equal("start", started, model.start(features, context))
    for beams in BEAMS:
        state = repeated_rows(started, beams)
        expected = map_structure(ops.convert_to_tensor, state)
        for first in (0, 1):  # two words, the same ones for both
            tokens = (first + np.arange(2 * beams, dtype="int32")) % model.vocabulary_size
            found, wanted = graphs.step(tokens, state), model.step(ops.convert_to_tensor(tokens), expected)
            _equal("step", found, wanted)
            state, expected = found[1], wanted[1]


def _equal(network: str, found: Any, expected: Any, close: float = CLOSE) -> None:
    others = dict(leaves(expected))
    for name, array in leaves(found):
        other, shown = as_array(others[name]), f"the exported {network} differs from Keras'"
        if array.shape != other.shape:
            raise BundleError(f"{shown}: {array.shape}, not {other.shape}; nothing was written")
        away = np.abs(array.astype("float64") - other).max(initial=0)
        if not away <= close * max(np.abs(other).max(initial=0), 1):
            raise BundleError(f"{shown} by {away:.2g}; nothing was written")
