"""Everything that writes: what is there before, the work, which is also how one goes on, and what a reader finds."""

import errno
import hashlib
import io
import json
import threading
import zipfile
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import PIL.Image  # noqa: F401, once and not in every child
import pyarrow.parquet  # noqa: F401

from tests.fuzz.inputs import images
from tests.serving.parts import Toy
from xray_captioning.batch import caption_table, partitions, run
from xray_captioning.bundles.bundle import bundle_files, read_bundle, rewrite_bundle, write_bundle
from xray_captioning.data import cache_folder
from xray_captioning.data.feature_files import open_features, write_features
from xray_captioning.data.features import ArrayCache
from xray_captioning.data.opening import unpacked
from xray_captioning.data.table import Table
from xray_captioning.files import atomic_write, shipped_folder
from xray_captioning.hub.fetch import RemoteFile, fetch_file
from xray_captioning.phantom.dataset import write_phantoms


class Operation(NamedTuple):
    """A way to write below a folder."""

    before: Callable[[Path], object]
    work: Callable[[Path], object]
    found: Callable[[Path], Any]  # raises where there is nothing that can be read


def nothing(folder: Path) -> None:
    """Stand for a folder in which nothing is before."""


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


# --- one file


def text(folder: Path) -> None:

    atomic_write(folder / "run.json", "new\n" * 1000)


# --- a bundle, new and rewritten


def _fill(aside: Path) -> None:

    values = json.loads((shipped_folder() / "phantom_attention" / "captioner.json").read_text("utf-8"))
    (aside / "captioner.json").write_text(json.dumps(values), "utf-8")
    for name in ("encoder.weights.h5", "decoder.weights.h5", "tokenizer.json"):
        (aside / name).write_bytes(name.encode() * 500)


def new_bundle(folder: Path) -> None:

    write_bundle(folder / "bundle", _fill)


def rewritten(folder: Path) -> None:

    rewrite_bundle(folder / "bundle", lambda aside: (aside / "calibration.json").write_text("{}" * 4000, "utf-8"))


def whole_bundle(folder: Path) -> Any:

    read_bundle(folder / "bundle", "captioner")
    return {name: (folder / "bundle" / name).read_bytes() for name in bundle_files(folder / "bundle")}


# --- features, in a file and in the cache


def features(suffix: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:

        out = folder / f"features{suffix}"
        if out.is_dir():
            return  # it is never written over
        batches = [{"regions": np.full((2, 1, 2, 2, 64), n, np.float32), "seen": np.ones(2)} for n in range(3)]
        write_features(out, list("abcdef"), batches, {"encoder": "toy"})

    return write


def read_features(suffix: str) -> Callable[[Path], Any]:
    def read(folder: Path) -> Any:

        return open_features(folder / f"features{suffix}").read(np.arange(6))[0].tolist()

    return read


def _paths(folder: Path) -> list[str]:
    return [str(folder / "images" / f"{n}.png") for n in range(6)]


def some_images(folder: Path) -> None:
    for n, path in enumerate(_paths(folder)):
        _write(Path(path), images()[n])


def _computed(paths: list[str]) -> Any:
    return np.stack([np.full(64, len(Path(path).read_bytes()), np.float32) for path in paths])


def cache(folder: Path) -> None:

    ArrayCache(folder / "cache", {"encoder": "toy"}).fill(_paths(folder), _computed)


def read_cache(folder: Path) -> Any:

    found = ArrayCache(folder / "cache", {"encoder": "toy"})
    found.fill(_paths(folder), _computed)
    return [found[path].tolist() for path in _paths(folder)]


# --- tables of captions


class Reading(Toy):
    """Stands for a captioner that reads the images itself."""

    def features(self, studies: Any, views: Any = None, resized: bool = False) -> Any:
        """Return the bytes of each image as its pixels."""
        return [[np.frombuffer(Path(path).read_bytes(), np.uint8) for path in study] for study in studies]


def captions(name: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:

        small = patch.multiple(run, SIZE=2, SHARE=1), patch.object(partitions, "STUDIES", 2)
        studies = [caption_table.Study(path, (path,), [path]) for path in _paths(folder)]
        out = folder / name
        if not caption_table.is_whole(out):
            with small[0], small[1]:
                run.caption_to_file(Reading(), "digest", caption_table.PackedStudies(studies), out, 1, resume=True)

    return write


def partitioned(folder: Path) -> Any:
    rows = [dict(row) for row in Table(folder / "out")]
    if not rows:
        raise FileNotFoundError(errno.ENOENT, "nothing is there", folder / "out")
    return rows


def content(name: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).read_bytes()


# --- phantoms, archives, downloads


def phantoms(folder: Path) -> None:

    if not (folder / "phantoms").is_dir():
        write_phantoms(folder / "phantoms", studies=1, seed=3, size=32)


def tree(name: str) -> Callable[[Path], Any]:
    def read(folder: Path) -> Any:
        files = sorted(path for path in (folder / name).rglob("*") if path.is_file())
        if not files:
            raise FileNotFoundError(errno.ENOENT, "nothing is there", name)
        return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    return read


def archive(folder: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as target:
        for n, image in enumerate(images()[:4]):
            target.writestr(f"images/{n}.png", image)
    _write(folder / "studies.zip", packed.getvalue())


def unpack(folder: Path) -> Path:

    cache_folder.usual_cache = lambda: folder / "cache"
    return unpacked(folder / "studies.zip")


def read_unpacked(folder: Path) -> Any:
    home = unpack(folder)
    return {path.name: path.read_bytes() for path in sorted(home.rglob("*.png"))}


CONTENT = bytes(range(256)) * 300


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        start = int((self.headers["Range"] or "bytes=0-").removeprefix("bytes=").partition("-")[0])
        self.send_response(206 if self.headers["Range"] else 200)
        self.send_header("ETag", '"one"')
        self.send_header("Content-Length", str(len(CONTENT) - start))
        if self.headers["Range"]:
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.end_headers()
        self.wfile.write(CONTENT[start:])

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def download(folder: Path) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    digest, url = hashlib.sha256(CONTENT).hexdigest(), f"http://127.0.0.1:{server.server_port}/weights.bin"
    fetch_file(RemoteFile("weights.bin", (url,), sha256=digest, size=len(CONTENT)), folder / "fetched")


OPERATIONS = {
    "text": Operation(lambda folder: _write(folder / "run.json", b"old"), text, content("run.json")),
    "new bundle": Operation(nothing, new_bundle, whole_bundle),
    "rewritten bundle": Operation(new_bundle, rewritten, whole_bundle),
    "features.npz": Operation(nothing, features(".npz"), read_features(".npz")),
    "features.zarr": Operation(nothing, features(".zarr"), read_features(".zarr")),
    "cache": Operation(some_images, cache, read_cache),
    "captions.jsonl": Operation(some_images, captions("out.jsonl"), content("out.jsonl")),
    "captions.csv": Operation(some_images, captions("out.csv"), content("out.csv")),
    "captions.parquet": Operation(some_images, captions("out.parquet"), content("out.parquet")),
    "captions": Operation(some_images, captions("out"), partitioned),
    "phantoms": Operation(nothing, phantoms, tree("phantoms")),
    "archive": Operation(archive, unpack, read_unpacked),
    "download": Operation(nothing, download, content("fetched/weights.bin")),
}
