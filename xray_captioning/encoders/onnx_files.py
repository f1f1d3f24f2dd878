"""Any ONNX file as an encoder that is not trained, run by onnxruntime."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from xray_captioning.data.features import Array
from xray_captioning.errors import BundleError, ConfigError, in_one_line
from xray_captioning.files import load_onnxruntime


class OnnxEncoder:
    """Images (batch, size, size, 3) to regions (batch, rows, columns, channels) of `layer`, or of the first output."""

    # Channels come first in maps where they do in images. Of tokens (batch, tokens, channels) a class token,
    # alone or with four registers, before a square of them is left out.
    def __init__(self, path: Path, size: int | None, layer: str | None) -> None:
        self.path, self.session = path, _session(path, layer)
        self.layer = layer or self.session.get_outputs()[0].name
        one, *more = self.session.get_inputs()
        self.input, shape = one, list(one.shape)
        self.first = len(shape) == 4 and shape[1] in (1, 3)
        channel = shape.pop(1 if self.first else -1) if len(shape) == 4 else None
        if more or channel not in (1, 3) or one.type not in ("tensor(float)", "tensor(float16)"):
            wanted = "an encoder has one input of floats, of images with one or three channels"
            raise ConfigError(f"{path}: expects {one.name} {one.shape}, {one.type}; {wanted}")
        self.kept, self.one = channel, shape[0] == 1
        sides = {side for side in shape[1:] if isinstance(side, int)}
        self.size = size or min(sides, default=224)
        if sides - {self.size}:
            raise ConfigError(f"{path}: expects images of {shape[1]} x {shape[2]} px, not {self.size}; export it so")
        _, *self.grid, self.channels = self.encode(np.zeros((1, self.size, self.size, 3))).shape

    def encode(self, images: Any) -> Array:
        """Return regions (batch, rows, columns, channels), float32."""
        pixels = np.asarray(images, "float16" if "16" in self.input.type else "float32")[..., : self.kept]
        pixels = np.ascontiguousarray(np.moveaxis(pixels, -1, 1) if self.first else pixels)
        parts = np.split(pixels, len(pixels)) if self.one else [pixels]
        try:
            found = [self.session.run([self.layer], {self.input.name: p})[0] for p in parts]
        except Exception as error:  # onnxruntime has many, and no family of them
            raise BundleError(f"{self.path}: {in_one_line(error, 200)}; set image.size to its own") from error
        values = np.concatenate(found).astype("float32")
        if (regions := regions_of(values, self.first)) is None:
            shape = f"{values.shape}, which is no map, no square of tokens and no vector"
            raise ConfigError(f"{self.path}: {self.layer} has the shape {shape}; name another value by --layer")
        return regions


def regions_of(values: Array, channels_first: bool) -> Array | None:
    """Return maps, tokens or vectors as (batch, rows, columns, channels), or None of another."""
    if values.ndim == 4:
        return np.moveaxis(values, 1, -1) if channels_first else values
    tokens = values[:, None] if values.ndim == 2 else values
    side = math.isqrt(tokens.shape[1]) if values.ndim in (2, 3) else 0
    if not side or tokens.shape[1] - side**2 not in (0, 1, 5):
        return None
    return tokens[:, -(side**2) :].reshape(len(values), side, side, -1)


def _session(path: Path, layer: str | None) -> Any:
    runtime = load_onnxruntime("encoders that are ONNX files", "onnx")
    options, providers = runtime.SessionOptions(), runtime.get_available_providers()
    options.log_severity_level = 4  # what is wrong is said by the errors below
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path.parent))
    try:
        model = path.read_bytes()
        session = runtime.InferenceSession(model, options, providers=providers)
        outputs = [output.name for output in session.get_outputs()]
        if layer is None or layer in outputs:
            return session
    except Exception as error:
        raise BundleError(f"{path}: onnxruntime cannot read it ({in_one_line(error, 200)})") from error
    try:  # a message behind another is merged with it: here a graph with one more output
        model += _field(7, _field(12, _field(1, layer.encode())))
        return runtime.InferenceSession(model, options, providers=providers)
    except Exception as error:
        raise ConfigError(f"{path}: has no {layer!r}; its outputs are {outputs}") from error


def _field(number: int, content: bytes) -> bytes:
    size = len(content)  # in two bytes of seven bits each, also where one would do
    return bytes([number << 3 | 2, size & 127 | 128, size >> 7]) + content
