"""Captions without Keras and TensorFlow, from exported graphs that another program runs."""

import importlib.util
from pathlib import Path
from typing import Any

from xray_captioning.bundles.bundle import MANIFEST, find_bundle, identity, read_bundle, read_values
from xray_captioning.captioner.calibration import load_calibration
from xray_captioning.captioner.captioner import Captioner
from xray_captioning.captioner.graphs import RUNTIMES, open_graphs
from xray_captioning.config import Config
from xray_captioning.data.provenance import TrainedOn
from xray_captioning.errors import ConfigError
from xray_captioning.files import sha256_file
from xray_captioning.text.tokenizer import load_tokenizer

PACKAGES = {"onnx": "onnxruntime", "openvino": "openvino", "litert": "ai_edge_litert", "saved_model": "tensorflow"}
KERAS = "keras"


def load(name: str | Path, runtime: str | None = None) -> Captioner:
    """Load an exported captioner, which writes the same captions; neither Keras nor TensorFlow is imported.

    Parameters
    ----------
    name : path
        A folder that ``xray-captioning export`` wrote, or a bundle (or the name of a shipped one, or its address on a
        hub) that holds such.
    runtime : {"onnx", "openvino", "litert", "saved_model"}, optional
        What runs the graphs, of what can run their format. By default the first that is installed.

    Raises
    ------
    BundleError
        The folder is missing, incomplete or altered.
    ConfigError
        It holds no export, none of its present state, or none that this runtime can run.
    MissingExtraError
        The runtime is not installed.
    """
    folder = find_bundle(name)
    if (found := find_export(folder)) is None:
        write = f"xray-captioning export --bundle {folder} --out {folder / 'export'}"
        raise ConfigError(f"{folder}: holds no export of its present state; write one: {write}")
    whole = read_bundle(folder, "captioner", exported=True)  # not altered either
    values = read_bundle(found, "captioner", exported=True)
    runners = RUNTIMES[form := values["export"]["format"]]
    if runtime is not None and runtime not in runners:
        raise ConfigError(f"{found}: {form} graphs are not run by {runtime}; export others")
    runtime = runtime or [*_installed(values), *runners][0]
    config = Config.from_dict(values["config"], f"{found}/captioner.json")
    tokenizer, known = load_tokenizer(found / "tokenizer.json"), (TrainedOn.load(folder), load_calibration(found))
    captioner = Captioner(config, *open_graphs(found, values, runtime), tokenizer, values["about"], *known)
    captioner.identity = identity(folder, whole)
    return captioner


def find_export(folder: Path) -> Path | None:
    """Return where a bundle's graphs are, None where it has none that were exported since."""
    for place in filter(lambda place: (place / MANIFEST).is_file(), (folder, folder / "export")):
        export = read_values(place).get("export")
        if export and (place == folder or export.get("bundle") == sha256_file(folder / MANIFEST)):
            return place
    return None


def _installed(values: dict[str, Any]) -> list[str]:
    """Return what is there of the runtimes that run an export's graphs."""
    return [one for one in RUNTIMES[values["export"]["format"]] if importlib.util.find_spec(PACKAGES[one])]


def open_captioner(name: str | Path, runtime: str | None = None) -> Captioner:
    """Load a captioner with the runtime asked for, or else the quickest that there is."""
    folder = find_bundle(name)
    if runtime is None:
        found = find_export(folder)
        runtime = None if found and (found == folder or _installed(read_values(found))) else KERAS
    return Captioner.load(folder) if runtime == KERAS else load(folder, runtime)
