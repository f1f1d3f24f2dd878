"""Addresses of stores, such as s3://bucket/folder: the one door to them, which is fsspec (extra `scale`). Of a folder
all that is no image is copied into the folder of caches, and of images the names alone, as empty files, by which the
readers of sources find them: the table of studies has their addresses, at which they are read when they are needed.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from xray_captioning.data.cache_folder import usual_cache
from xray_captioning.data.opening import MANIFEST, PARTITION, is_image, kept_folder, partitions
from xray_captioning.errors import ConfigError, DataError, StoreError, one_error, require
from xray_captioning.files import atomic_path
from xray_captioning.hub.repositories import is_hub, pull

# Not of the web: a table that somebody sent could make this machine ask any server.
_ADDRESS = re.compile(r"(s3|s3a|gs|gcs|hdfs|webhdfs|abfs|abfss|az|memory)://")
_VERSIONS = ("ETag", "etag", "md5Hash", "mtime", "created")  # what stores say of a file, the surest first
_WHOLE_PUTS = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az")  # show nothing before all of a file is there


def is_address(place: Any) -> bool:
    """Tell whether a path is the address of a file or folder in a store."""
    return isinstance(place, str) and bool(_ADDRESS.match(place))


@contextmanager
def _store(address: str) -> Iterator[tuple[Any, str]]:
    """Yield the store of an address and the path in it; what goes wrong there is one line."""
    fsspec = require("fsspec.core", "files of a store", "scale")
    advice = "check the address, the credentials and the network, then start again"
    with one_error(StoreError, f"{address}: the store cannot be used ({{error}}); {advice}"):
        try:
            store, path = fsspec.url_to_fs(address)
            store.invalidate_cache()
            yield store, path
        except FileNotFoundError as error:
            raise DataError(f"{address}: is not there; check the address") from error


def read(address: str, most: int | None = None) -> bytes:
    """Return a file of a store, or so many of its first bytes."""
    with _store(address) as (store, path):
        return bytes(store.cat_file(path, end=most))


def versions(paths: Iterable[str]) -> dict[str, str]:
    """Return, of the addresses at which there is a file, what tells it from others; each folder is listed once."""
    wanted = set(filter(is_address, paths))
    folders = {path.rpartition("/")[0] for path in wanted}
    return {path: found for folder in folders for path, found in _list(folder) if path in wanted}


def _list(folder: str) -> Iterator[tuple[str, str]]:
    with _store(folder) as (store, path), suppress(FileNotFoundError):
        for about in store.ls(path, detail=True):  # `exists` would take any error for an answer
            if about["type"] == "file":
                yield f"{folder}/{about['name'].rpartition('/')[2]}", _version(about)


def _version(about: dict[str, Any]) -> str:
    return f"{about['size']} {next((about[name] for name in _VERSIONS if name in about), '')}"


def those_there(paths: Iterable[str]) -> set[str]:
    """Return those of some paths and addresses at which there is a file."""
    paths = set(paths)
    return {path for path in paths if not is_address(path) and os.path.isfile(path)} | versions(paths).keys()


def local(place: str | os.PathLike[str], known: dict[str, str] | None = None, tables: bool = True) -> Path:
    """Return a path as it is; of an address a copy of the file or folder there, of a hub's all of it."""
    # `known` is given where images may lie below, and then tells the address of the copy's folder: beside a
    # file, too, there is an empty file of each one's name. Without `tables` there are images alone.
    if is_hub(place):
        return pull(str(place), data=True)
    if not isinstance(place, (str, os.PathLike)):
        raise DataError(f"expected the path of a folder or file, got {type(place).__name__}; give one path")
    if not is_address(place):
        return Path(place)
    address = str(place).rstrip("/")
    with _store(address) as (store, path):
        about = store.info(path)
        alone = about["type"] == "file"
        folder, root = (place.rpartition("/")[0] if alone else place for place in (address, path))
        found = {path: about} if alone and known is None else store.find(root, detail=True)
        # Names may lead anywhere. Some stores have files for folders.
        files = {name[len(root) + 1 :]: about for name, about in found.items() if about["type"] == "file"}
        files = {name: about for name, about in files.items() if not {"", ".", ".."} & set(name.split("/"))}
        whole = {name for name in files if tables and (f"{root}/{name}" == path if alone else not is_image(name))}

        def fill(target: Path) -> None:
            for name in files:
                (copy := Path(target, name)).parent.mkdir(parents=True, exist_ok=True)
                store.get_file(f"{root}/{name}", str(copy)) if name in whole else copy.touch()

        listed = sorted((name, _version(about), name in whole) for name, about in files.items())
        copy = kept_folder(folder, [folder, listed], sum(files[name]["size"] for name in whole), len(whole), fill)
    if known is not None:
        known[str(copy)] = folder
    return copy / path.rpartition("/")[2] if alone else copy


def addressed(text: str, known: dict[str, str]) -> str:
    """Return a text in which folders of copies are called by their addresses."""
    for copy, address in known.items():
        text = text.replace(copy, address)
    return text


@contextmanager
def naming(known: dict[str, str]) -> Iterator[None]:
    """Name addresses in an error, not the copies of what lies there."""
    try:
        yield
    except DataError as error:
        raise type(error)(addressed(str(error), known)) from error


def staged(out: Any, resume: bool) -> Any:
    """Return where a file is written that goes to an address, taken only where a run is resumed; others as they are."""
    if not is_address(out):
        return out
    if not (name := out.rstrip("/").partition("://")[2].rpartition("/")[2]):
        raise ConfigError(f"--out {out}: names no file or folder of the store; give one")
    file = usual_cache() / "outgoing" / hashlib.sha256(out.rstrip("/").encode()).hexdigest()[:16] / name
    with _store(out) as (store, path):
        try:
            about = store.info(path)
        except FileNotFoundError:
            return file
        if not resume:
            raise ConfigError(f"{out}: is there already; choose another --out, or remove it")
        if about["type"] != "file":
            _fetch_partitions(store, path, file)
        else:
            file.parent.mkdir(parents=True, exist_ok=True)
            store.get_file(path, str(file))
    return file


def put(file: Path, out: Any, sent: bool = False) -> None:
    """Move a file, or a folder with a manifest, to the address that it was `staged` for: all is there or nothing."""
    if not is_address(out):
        return
    with _store(out.rstrip("/")) as (store, path):
        if file.is_dir():
            _put_partitions(store, file, path)
        elif not sent:
            aside = path if out.partition(":")[0] in _WHOLE_PUTS else f"{path}.part"
            store.put_file(str(file), aside)
            if aside != path:
                store.mv(aside, path)
    shutil.rmtree(file.parent)


def _fetch_partitions(store: Any, path: str, folder: Path) -> None:
    # The manifest last: where it is here, a run goes on with what is here. One beside which ".part" is, is whole.
    there = [about["name"].rpartition("/")[2] for about in store.ls(path, detail=True) if about["type"] == "file"]
    if not (manifest := [name for name in (MANIFEST, f"{MANIFEST}.part") if name in there][:1]):
        raise ConfigError(f"{path}: is there already, and no folder of captions; choose another --out")
    if not any(folder.glob(f"{MANIFEST}*")):
        for name in [name for name in there if name.endswith(PARTITION)] + manifest:
            with atomic_path(folder / name) as aside:
                store.get_file(f"{path}/{name}", str(aside))


def _put_partitions(store: Any, folder: Path, path: str) -> None:
    # Unfinished until all that the manifest names is there. `mv` would take "[1]" in a name for a pattern.
    sizes = {n.rpartition("/")[2]: about["size"] for n, about in store.find(path, maxdepth=1, detail=True).items()}
    first, *others = [folder / MANIFEST, *partitions(folder)]
    known = MANIFEST in sizes and store.cat_file(f"{path}/{MANIFEST}") == first.read_bytes()
    missing = [(one, one.name) for one in (*others, first) if not known or sizes.get(one.name) != one.stat().st_size]
    if missing or f"{MANIFEST}.part" in sizes:
        for one, name in [(first, f"{MANIFEST}.part"), *missing]:
            store.put_file(str(one), f"{path}/{name}")
        store.rm_file(f"{path}/{MANIFEST}.part")
