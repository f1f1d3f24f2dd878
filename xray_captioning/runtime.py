"""Captions without Keras and TensorFlow, from exported graphs that another program runs."""

import importlib.util
from pathlib import Path

from xray_captioning.bundles.bundle import MANIFEST, find_bundle, read_bundle
from xray_captioning.captioner.base import BaseCaptioner
from xray_captioning.captioner.graphs import RUNTIMES, GraphCaptioner
from xray_captioning.errors import ConfigError
from xray_captioning.files import read_json, sha256_file

PACKAGES = {"onnx": "onnxruntime", "openvino": "openvino"}
KERAS = "keras"


def load(name: str | Path, runtime: str | None = None) -> GraphCaptioner:
    """Load an exported captioner; neither Keras nor TensorFlow is imported.

    Parameters
    ----------
    name : path
        A folder that ``xray-captioning export`` wrote, a bundle that holds one as ``export``, or
        the name of a shipped bundle.
    runtime : {"onnx", "openvino"}, optional
        What runs the graphs: onnxruntime or OpenVINO. By default the first that is installed.

    Returns
    -------
    GraphCaptioner
        With ``caption``, ``caption_iter``, ``features`` and ``findings`` as
        :class:`~xray_captioning.Captioner` has them.

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
    found = find_export(folder)
    if found is None:
        advice = f"xray-captioning export --bundle {folder} --out {folder / 'export'}"
        raise ConfigError(f"{folder}: holds no export of its present state; write one: {advice}")
    read_bundle(folder, "captioner", exported=True)  # not altered either
    values = read_bundle(found, "captioner", exported=True)
    known = list(RUNTIMES[values["export"]["format"]])
    if runtime is not None and runtime not in known:
        form = values["export"]["format"]
        raise ConfigError(f"{found}: {form} graphs are not run by {runtime}; export others")
    installed = [one for one in known if importlib.util.find_spec(PACKAGES[one])]
    return GraphCaptioner(found, values, runtime or next(iter(installed), known[0]))


def find_export(folder: Path) -> Path | None:
    """Return where a bundle's graphs are, None where it has none that were exported since."""
    found = [place for place in (folder, folder / "export") if (place / MANIFEST).is_file()]
    for place in found:
        export = read_json(place / "captioner.json", "copy the folder again").get("export")
        if export and (place == folder or export["bundle"] == sha256_file(folder / MANIFEST)):
            return place
    return None


def open_captioner(name: str | Path, runtime: str | None = None) -> BaseCaptioner:
    """Load a captioner with the runtime asked for, or else the quickest that there is."""
    folder = find_bundle(name)
    if runtime is None:
        there = any(importlib.util.find_spec(package) for package in PACKAGES.values())
        runtime = KERAS if find_export(folder) is None or not there else None
    if runtime != KERAS:
        return load(folder, runtime)
    from xray_captioning.captioner.captioner import Captioner

    return Captioner.load(folder)
