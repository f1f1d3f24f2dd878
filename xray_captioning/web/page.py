"""Writes the page: what lies in this folder, a bundle's graphs, and onnxruntime-web or where it is."""

import base64
import hashlib
import json
import shutil
import tarfile
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from xray_captioning.bundles.bundle import bundle_files, copy_files, identity, read_bundle
from xray_captioning.captioner.calibration import load_calibration
from xray_captioning.captioner.captioner import Captioner
from xray_captioning.captioner.evidence import best_methods
from xray_captioning.errors import ConfigError, DataError
from xray_captioning.files import new_folder, read_json
from xray_captioning.hub.fetch import Part, RemoteFile, UnreachableError, download
from xray_captioning.metrics.labeler import find_mentions
from xray_captioning.metrics.labels import rules
from xray_captioning.runtime import find_export, load

HERE = Path(__file__).parent
RESIZES = ("area", "linear", "nearest")  # what resize.js does
RUNTIME = MODULE, BINARY = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"


def write_page(bundle: Path, out: Path, wasm: str | None = None) -> str:
    """Write a bundle's page and return where it takes onnxruntime-web from. `wasm` is a folder that has it, or
    "cdn"; None is npm's registry, or a CDN if that does not answer.
    """
    with new_folder(out) as folder:
        _write_graphs(bundle, folder / "bundle")
        page = _described(folder / "bundle")
        where, digests = _place_runtime(folder / "runtime", wasm)
        (folder / "page.json").write_text(json.dumps(page), "utf-8")
        for path in (*HERE.glob("*.js"), HERE / "style.css"):
            shutil.copyfile(path, folder / path.name)
        values = {"name": escape(page["name"]), "page": integrity(folder / "page.json", "sha256"), "where": where}
        values |= {"module": digests[MODULE], "binary": digests[BINARY]}
        values["cdn"] = f" {where}" if where.startswith("https:") else ""
        html = Template((HERE / "index.html").read_text("utf-8")).substitute(values)
        (folder / "index.html").write_text(html, "utf-8")
    return where


def integrity(path: Path, algorithm: str) -> str:
    """Return what a browser compares a file with (W3C, Subresource Integrity)."""
    return f"{algorithm}-{base64.b64encode(hashlib.new(algorithm, path.read_bytes()).digest()).decode()}"


def _write_graphs(bundle: Path, folder: Path) -> None:
    """Copy the bundle's export where it has one of its present state, else make one."""
    found = find_export(bundle)
    if found and read_bundle(found, "captioner", exported=True)["export"]["format"] == "onnx":
        copy_files(found, folder)
    else:
        Captioner.load(bundle).export(folder)


def _described(folder: Path) -> dict[str, Any]:
    """Return what the page has to know of an export: its digests, and what only Python can read."""
    config = (values := read_bundle(folder, "captioner", exported=True))["config"]
    if context := config["text"].get("context"):
        raise ConfigError(f"a page shows images only, but this bundle reads the {' and '.join(context)}; train without")
    if (resize := config["image"]["resize"]) not in RESIZES:
        raise ConfigError(f"a page resizes images by {', '.join(RESIZES)}, not by {resize!r} as this bundle does")
    fitted, words = load_calibration(folder), read_json(folder / "tokenizer.json", "export the bundle again")
    arrays = [array.astype("<f4").tobytes() for array in (fitted.centre, fitted.precision)] if fitted else []
    vocabulary = {word.lower().removeprefix("\u0120") for word in words.get("words") or words["vocabulary"]}
    return {
        "name": identity(folder, values).name,
        "files": {name: integrity(folder / name, "sha256") for name in bundle_files(folder)},
        "calibration": base64.b64encode(b"".join(arrays)).decode(),
        "findingWords": sorted(filter(find_mentions, vocabulary)),
        "offset": load(folder).offset,
        "evidence": _evidence(values, vocabulary),
    }


def _evidence(values: dict[str, Any], vocabulary: set[str]) -> dict[str, Any] | None:
    """Return what regions of captions are made of, None where a bundle's measure allows none."""
    outputs = values["export"]["graphs"].get("classifier", {}).get("outputs", ())
    if not (best := best_methods(values["about"], ["attention", *["class activation"] * ("activation" in outputs)])):
        return None
    named = {finding: {name: row[name] for name in ("method", "hits", "chance")} for finding, row in best.items()}
    spelled = {word: list(rules.rules("chexpert").spelling[word]) for word in sorted(vocabulary)}
    return {"measured": named, "spelled": spelled, "automaton": rules.text_of("automaton.txt")}


def _place_runtime(folder: Path, wasm: str | None) -> tuple[str, dict[str, str]]:
    """Put onnxruntime-web's files into a folder; return its address and their digests."""
    known = read_json(HERE / "runtime.json", "install the package again")
    try:
        if wasm is None:
            _download(folder, known)
    except UnreachableError:
        wasm = "cdn"
    if wasm == "cdn":
        shutil.rmtree(folder, ignore_errors=True)
        return known["cdn"], known["files"]
    folder.mkdir(exist_ok=True)
    for name in RUNTIME if wasm else ():
        if not (source := Path(str(wasm), name)).is_file():
            raise DataError(f"{source}: is not there; give the dist of npm's {known['package']}")
        shutil.copyfile(source, folder / name)
    return "runtime/", {name: integrity(folder / name, "sha384") for name in RUNTIME}


def _download(folder: Path, known: dict[str, Any]) -> None:
    """Download npm's package, check it, and keep the two files that a page needs."""
    folder.mkdir()
    part, url = Part.beside(folder / known["package"]), known["registry"]
    download(url, part, RemoteFile(known["package"], (url,)))
    if integrity(part.content, "sha512") != known["integrity"]:
        raise DataError(f"{url}: is not the package that this version was tested with; give --wasm-dir")
    with tarfile.open(part.content) as package:
        for name in RUNTIME:
            (folder / name).write_bytes(package.extractfile(f"package/dist/{name}").read())  # type: ignore[union-attr]
    part.remove()
