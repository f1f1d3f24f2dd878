"""Weights files as Keras 2 writes them, made here with h5py."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from xray_captioning.checkpoints import StoredArray

Layers = Mapping[str, Mapping[str, np.ndarray]]
SIZES = {"head": 24, "units": 16, "embedding": 10, "attention": 20, "vocabulary": 30}


def write(path: Path, layers: Layers, text: type = str, parts: int = 0, root: str = "") -> Path:
    """Write layers of arrays; names as text or bytes, and lists of names in so many parts."""
    with h5py.File(path, "w") as file:
        group = file.create_group(root) if root else file
        _names(group, "layer_names", list(layers), text, parts)
        for layer, arrays in layers.items():
            inner = group.create_group(layer)
            _names(inner, "weight_names", [f"{name}:0" for name in arrays], text, parts)
            for name, values in arrays.items():
                inner.create_dataset(f"{name}:0", data=values)
    return path


def _names(group: Any, attribute: str, names: list[str], text: type, parts: int) -> None:
    values = names if text is str else [name.encode() for name in names]
    if parts and len(values) >= parts:
        for i, part in enumerate(np.array_split(np.array(values, dtype=object), parts)):
            group.attrs[f"{attribute}{i}"] = list(part) if text is str else np.array(list(part))
    else:
        group.attrs[attribute] = values if text is str else np.array(values)


def decoder_layers(seed: int = 0, **sizes: int) -> dict[str, dict[str, np.ndarray]]:
    """Everything but the image encoder, random, by its published names."""
    s = {**SIZES, **sizes}
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return rng.normal(0, 0.5, shape).astype("float32")

    attention, cell = "global_attention", "onestepdecoder_LSTM/gru_cell"
    dense = {
        f"{attention}/dense": (s["head"], s["attention"]),
        f"{attention}/dense_1": (s["units"], s["attention"]),
        f"{attention}/dense_2": (s["attention"], 1),
        "dense_3": (s["units"], s["vocabulary"]),
    }
    return {
        "input_1": {},
        "bkdense": {"bkdense/kernel": normal(1024, s["head"]) / 10, "bkdense/bias": normal(s["head"])},
        "concatenate": {},
        "encoder_batch_norm": {
            "encoder_batch_norm/gamma": normal(s["head"]) + 1,
            "encoder_batch_norm/beta": normal(s["head"]),
            "encoder_batch_norm/moving_mean": normal(s["head"]),
            "encoder_batch_norm/moving_variance": np.abs(normal(s["head"])) + 0.5,
        },
        "decoder": {
            "onestepdecoder_embedding/embeddings": normal(s["vocabulary"], s["embedding"]) * 4,
            f"{cell}/kernel": normal(s["head"] + s["embedding"], 3 * s["units"]),
            f"{cell}/recurrent_kernel": normal(s["units"], 3 * s["units"]),
            f"{cell}/bias": normal(2, 3 * s["units"]),
            **{
                f"{name}/{leaf}": normal(*(shape if leaf == "kernel" else shape[1:]))
                for name, shape in dense.items()
                for leaf in ("kernel", "bias")
            },
        },
    }


def stored(layers: Layers) -> list[StoredArray]:
    """What the reader makes of such layers."""
    return [StoredArray(layer, n, v) for layer, arrays in layers.items() for n, v in arrays.items()]


def renamed(layers: Layers, changes: Mapping[str, str]) -> dict[str, dict[str, np.ndarray]]:
    """Replace parts of the decoder's names; the order stays."""

    def new(name: str) -> str:
        for old, text in changes.items():
            name = name.replace(old, text)
        return name

    decoder = {new(name): values for name, values in layers["decoder"].items()}
    return {**layers, "decoder": decoder}


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


class Older:
    """The older program's arithmetic in NumPy, from the published description."""

    def __init__(self, layers: Layers, regions: np.ndarray) -> None:
        features = np.float64(regions)
        self.bk, self.bn = layers["bkdense"], layers["encoder_batch_norm"]
        self.decoder = layers["decoder"]
        regions = np.maximum(features @ self.bk["bkdense/kernel"] + self.bk["bkdense/bias"], 0)
        gamma, beta, mean, variance = self.bn.values()
        self.regions = (regions - mean) / np.sqrt(variance + 1e-3) * gamma + beta
        self.hidden = np.zeros(SIZES["units"])

    def dense(self, name: str, x: np.ndarray) -> np.ndarray:
        return x @ self.decoder[f"{name}/kernel"] + self.decoder[f"{name}/bias"]

    def step(self, token: int) -> np.ndarray:
        """Logits after one more token."""
        if token == 0:  # masked: Keras' recurrent layers keep the state and return zeros
            return self.dense("dense_3", np.zeros_like(self.hidden))
        a, d, h = "global_attention", self.decoder, self.hidden
        hidden = np.tanh(self.dense(f"{a}/dense", self.regions) + self.dense(f"{a}/dense_1", h))
        energy = np.exp(self.dense(f"{a}/dense_2", hidden)[:, 0])
        context = energy / energy.sum() @ self.regions
        x = np.concatenate([context, d["onestepdecoder_embedding/embeddings"][token]])
        cell = "onestepdecoder_LSTM/gru_cell"
        bias = d[f"{cell}/bias"]
        inner = np.split(x @ d[f"{cell}/kernel"] + bias[0], 3)
        recurrent = np.split(h @ d[f"{cell}/recurrent_kernel"] + bias[1], 3)
        update, reset = (sigmoid(inner[i] + recurrent[i]) for i in range(2))
        candidate = np.tanh(inner[2] + reset * recurrent[2])
        self.hidden = update * h + (1 - update) * candidate
        return self.dense("dense_3", self.hidden)

    def greedy(self) -> list[int]:
        """At most 29 tokens after ``<cls>``, up to ``<end>``."""
        tokens = [3]
        while len(tokens) < 30 and (token := int(np.argmax(self.step(tokens[-1])))) != 4:
            tokens.append(token)
        return tokens[1:]
