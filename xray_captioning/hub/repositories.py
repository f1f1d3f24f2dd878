"""Bundles and data sets on Hugging Face's hub and on Kaggle, whose own clients transfer them (extra `hub`).

Of a bundle the files of its manifest travel, and no others: a repository may hold a pickle, but it is neither fetched
nor sent. Without a network the copy in a client's cache is used, and that is said.
"""

import logging
import re
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

from xray_captioning.errors import BundleError, ConfigError, StoreError, in_one_line, require
from xray_captioning.files import progress, read_json, sha256_file, unreported

MANIFEST = "manifest.json"
# What bundles and exported folders are made of; OpenVINO's .bin holds bare weights.
_KINDS = re.compile(r"(?!/)(?!.*\.\.)[\w./-]+\.(json|md|h5|onnx|xml|bin|tflite|pb|index|data-\d{5}-of-\d{5})")
_IGNORED = [f"*.{kind}" for kind in ("pkl", "pickle", "joblib", "pt", "pth", "ckpt", "bin", "py")]  # of data sets
_PART = r"[A-Za-z0-9_][\w.-]*"
_REVISION = r"((?!.*\.\.)[\w./-]+)"  # as git has it; clients keep a file of that name
_FORMS = {  # of an address, by whether it is that of data, and by hub: how it begins, a name and a revision
    (False, "hf"): rf"(hf://)({_PART}/{_PART})(?:@{_REVISION})?",
    (True, "hf"): rf"(hf://datasets/)({_PART}/{_PART})(?:@{_REVISION})?",
    (False, "kaggle"): rf"(kaggle://)({_PART}/{_PART}/{_PART}/{_PART})(?:/(\d+))?",
    (True, "kaggle"): rf"(kaggle://)({_PART}/{_PART})(?:/versions/(\d+))?",
}
_BUNDLE = "a bundle's is hf://USER/NAME[@REVISION] or kaggle://USER/MODEL/FRAMEWORK/VARIATION[/VERSION]"
_DATA = "a data set's is hf://datasets/USER/NAME[@REVISION] or kaggle://USER/NAME[/versions/VERSION]"
origins: dict[Path, str] = {}  # the addresses, with revisions, of folders that this process pulled


class UnreachableError(StoreError):
    """There is no network, or the hub fails."""


class _Repository(NamedTuple):
    client: Any
    data: bool
    start: str  # of its address
    name: str
    revision: str | None  # a branch, tag or commit; of Kaggle the number of a version. Folders are called after it


class _HuggingFace(_Repository):
    def newest(self) -> Path:
        kind = "dataset" if self.data else "model"  # asked first, because downloads take cached copies silently
        commit = self.client.HfApi().repo_info(self.name, repo_type=kind, revision=self.revision).sha
        if (folder := self.kept()).name != commit:
            raise ConnectionError(f"revision {commit} is not given")
        return folder

    def kept(self) -> Path:
        if not self.data:
            return self.file(self.revision, MANIFEST).parent
        asked = {"repo_type": "dataset", "ignore_patterns": _IGNORED, "revision": self.revision}
        return Path(self.client.snapshot_download(self.name, **asked))

    def file(self, revision: str | None, name: str) -> Path:
        return Path(self.client.hf_hub_download(self.name, name, revision=revision))

    def push(self, folder: Path, message: str) -> str:
        api, paths = self.client.HfApi(), [path for path in folder.rglob("*") if path.is_file()]
        api.create_repo(self.name, private=True, exist_ok=True)
        added = [self.client.CommitOperationAdd(path.relative_to(folder).as_posix(), path) for path in paths]
        # One commit, where upload_folder makes many.
        return str(api.create_commit(self.name, added, commit_message=message, revision=self.revision).oid)

    def at(self, revision: str | None) -> str:
        return f"{self.name}@{revision}"


class _Kaggle(_Repository):
    def newest(self) -> Path:
        if not self.data:
            return self.file(self.revision, MANIFEST).parent
        return Path(self.client.dataset_download(self.at(self.revision)))

    def kept(self) -> Path:
        cached = Path(self.client.config.get_cache_folder(), "datasets" if self.data else "models", self.name)
        folders = (path.name for path in (cached / "versions" if self.data else cached).iterdir())
        whole = (name for name in folders if name.isdigit() and self.revision in (None, name))
        return self._replace(revision=max(whole, key=int)).newest()

    def file(self, revision: str | None, name: str) -> Path:
        return Path(self.client.model_download(self.at(revision), path=name))

    def push(self, folder: Path, message: str) -> None:
        self.client.model_upload(self.at(self.revision), str(folder), version_notes=message)

    def at(self, revision: str | None) -> str:
        return f"{self.name}{'/versions' * self.data}/{revision}" if revision else self.name


_HUBS: dict[str, tuple[str, Any]] = {"hf": ("huggingface_hub", _HuggingFace), "kaggle": ("kagglehub", _Kaggle)}


def is_hub(address: Any) -> bool:
    """Tell whether a path is an address of a hub."""
    return isinstance(address, str) and address.startswith(("hf://", "kaggle://"))


def open_repository(address: str, data: bool = False) -> Any:
    """Return what an address names, and the client that speaks to its hub; nothing is sent."""
    hub = address.partition("://")[0]
    if not is_hub(address) or not (found := re.fullmatch(_FORMS[data, hub], address)):
        raise ConfigError(f"{address}: is no such address; {_DATA if data else _BUNDLE}")
    with unreported():
        client = require(_HUBS[hub][0], f"{hub}:// addresses", "hub")
    logging.getLogger("kagglehub").setLevel("ERROR")  # which else writes to standard output
    return _HUBS[hub][1](client, data, *found.groups())


@contextmanager
def _asking(address: str) -> Iterator[None]:
    """Let a client work, with its bars on a terminal only; what goes wrong is a StoreError."""
    shown = sys.stderr if sys.stderr is not None and sys.stderr.isatty() else StringIO()
    try:
        with redirect_stdout(shown), redirect_stderr(shown):
            yield
    except Exception as error:  # the clients and what they are built on have many kinds
        if isinstance(error, OSError) and error.errno and type(error) in (OSError, PermissionError, FileNotFoundError):
            raise  # of this machine, such as a full disk
        status = getattr(getattr(error, "response", None), "status_code", 500)
        if (isinstance(error, OSError) or type(error).__module__.startswith(("httpx", "httpcore"))) and status >= 500:
            said = f"cannot be reached ({_told(error, 150)}); try again with a network, or give a local folder"
            raise UnreachableError(f"{address}: {said}") from error
        said = f"the hub refuses ({_told(error, 300)}); check the address, and that you are logged in if it is private"
        raise StoreError(f"{address}: {said}") from error


def _told(error: Exception, most: int) -> str:
    """Return what an error says, without what addresses in it are signed with."""
    return re.sub(r"(?<=//)[^/\s]+@", "", re.sub(r"(?<=\w)\?\w[^\s'\")]*", "?…", in_one_line(error, most)))


def pull(address: str, data: bool = False) -> Path:
    """Return the folder, in a client's cache, of `data`, or of the files that a bundle's manifest names, and no others.

    A BundleError is a file that is a pickle, of a kind that bundles do not have, or not the one that the manifest
    names; a ConfigError another address; a StoreError a hub that refuses, or cannot be reached and nothing is kept.
    """
    repository = open_repository(address, data)
    try:
        with _asking(address):
            folder: Path = repository.newest()
    except UnreachableError as error:
        folder = _kept(address, repository, error)
    origins[folder.absolute()] = repository.start + repository.at(folder.name)
    digests = {} if data else _manifest(folder, address)
    for name in progress(digests, desc=address, unit="file", disable=data):
        with _asking(address):
            path = repository.file(folder.name, name)
        _check(path, digests[name], address)
    return folder


def _kept(address: str, repository: Any, error: UnreachableError) -> Path:
    try:
        with _asking(address):
            folder: Path = repository.kept()
    except (StoreError, OSError):
        raise error from None
    warnings.warn(f"{address}: not reached; the cached copy of revision {folder.name} is used", stacklevel=4)
    return folder


def _manifest(folder: Path, what: str | Path) -> dict[str, str]:
    """Return the digests of a bundle's files by name, if all are of kinds that bundles have."""
    digests: dict[str, str] = read_json(folder / MANIFEST, "it is no bundle", of=dict[str, str])
    for name in digests:
        if not _KINDS.fullmatch(name):
            raise BundleError(f"{what}: {name!r} is none of a bundle's files, which are JSON, HDF5 and graphs")
    return digests


def _check(path: Path, digest: str, what: str | Path) -> None:
    if sha256_file(path) != digest:
        raise BundleError(f"{what}: {path.name} is not the file of the manifest; remove {path.resolve()} and try again")
    content = path.read_bytes()
    if content.startswith(b"PK\x03\x04") or (re.match(rb"\x80[\x02-\x05]", content) and content.endswith(b".")):
        raise BundleError(f"{what}: {path.name} is a pickle or an archive, whatever it is called; it is not taken")


def push(folder: Path, address: str, message: str) -> str:
    """Send the files that a bundle's manifest names, and no others; return where, with the revision if it is told."""
    repository, digests = open_repository(address), _manifest(folder, folder)
    with tempfile.TemporaryDirectory() as aside:
        for name in (*digests, MANIFEST):
            (copy := Path(aside, name)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / name, copy)
            if name in digests:
                _check(copy, digests[name], folder)
        with _asking(address):
            revision = repository.push(Path(aside), message)
    return str(repository.start + (repository.at(revision) if revision else repository.name))
