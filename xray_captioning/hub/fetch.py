"""What others publish, and downloads of it over HTTP that go on where they stopped. ``weights/registry.json`` lists
weights and reports, ``encoders/registry.json`` encoders. A file is downloaded as ``.part``, checked, and then
renamed; one that is there is never replaced. pooch and requests neither continue nor stop at a size, huggingface_hub
does so for its own hub only. See RFC 9110, sections 13.1.5 (If-Range) and 14 (range requests).
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import os
import urllib.error
import urllib.request
import zlib
from contextlib import suppress
from functools import cache
from importlib import resources
from pathlib import Path, PurePath
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

from xray_captioning.errors import DataError, MissingExtraError, StoreError
from xray_captioning.files import alone_in, atomic_write, naming, progress, read_json, sha256_file, shipped_folder
from xray_captioning.hub.repositories import pull

TIMEOUT = 30.0  # seconds without an answer, or without a further byte
CHUNK = 1 << 18  # bytes
LOOPBACK = ("127.0.0.1", "localhost", "::1")
KAGGLE_TABLES = ("indiana_reports.csv", "indiana_projections.csv")
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
# What kinds of file begin with, so that a web page saved in their place is recognised.
FIRST_BYTES = {".h5": b"\x89HDF\r\n\x1a\n", ".tgz": b"\x1f\x8b"}


class RemoteFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A published file."""

    name: str
    urls: tuple[str, ...]  # the first that gives it is taken
    size: int | None = None  # bytes; None here and below is unknown
    git_blob: str | None = None  # hexadecimal, as is the next
    sha256: str | None = None

    def __post_init__(self) -> None:
        if PurePath(self.name).name != self.name or not self.urls:
            raise ValueError(f"{self.name!r} needs a plain file name and an address")


class PublishedEncoder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is known of an encoder that others published, from its project's own page and code."""

    network: str
    trained_on: str
    licence: str
    page: str
    size: int  # of its images, in pixels
    resize: str  # as data.resizing has it
    normalisation: str  # as data.images has it
    channels: int = 3
    outputs: tuple[str, ...] = ()  # '' for one that was not trained
    file: RemoteFile | None = None  # none where an account is needed, or no plain address is known
    operating_points: tuple[float | None, ...] = ()  # of the outputs, which they make 0.5
    tower: dict[str, Any] = {}  # of a Vision Transformer, as its config.json has it
    verified: str = "not here"

    @property
    def address(self) -> str:
        """Its name on Hugging Face's hub, or ''."""
        return self.page.partition("https://huggingface.co/")[2]


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is fetched under one name."""

    what: str
    used: str  # which command or function reads it
    licence: str  # ``unknown`` where none is stated
    page: str  # where people read about it
    files: tuple[RemoteFile, ...] = ()  # none for a Kaggle data set
    kaggle: str | None = None  # name of a Kaggle data set, for which Kaggle wants an account


def read_registry(path: str | os.PathLike[str] | None = None) -> dict[str, Entry]:
    """Read what can be fetched, by name, from the shipped registry or another one."""
    place = Path(path) if path is not None else shipped_folder() / "registry.json"
    return dict(read_json(place, "see weights/registry.json", DataError, dict[str, Entry]))


@cache
def registry() -> dict[str, PublishedEncoder]:
    """Return all published encoders by name."""
    data = resources.files("xray_captioning").joinpath("encoders/registry.json").read_bytes()
    return msgspec.json.decode(data, type=dict[str, PublishedEncoder])


def registered_name(name: str) -> str:
    """Return the name in `registry` of what is given by its address on a hub; others unchanged."""
    return next((own for own, one in registry().items() if name and one.address == name), name)


def fetch(entry: Entry, folder: Path) -> list[Path]:
    """Download what an entry names, unless it is there already, and check it; return the files, or the
    folder of a Kaggle data set. DataError: no address gives a file, or one is not the registry's.
    """
    if entry.kaggle is not None:
        return [_from_kaggle(entry.kaggle, entry.page, folder)]
    return [fetch_file(file, folder) for file in entry.files]


def fetch_file(file: RemoteFile, folder: Path) -> Path:
    """Download one file, unless it is there already; see `fetch`."""
    target = folder / file.name
    if target.exists():
        check_file(target, file, "move it away or choose another --out, then fetch again")
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with alone_in(folder):
        if target.exists():  # another process has downloaded it meanwhile
            return target
        _from_first(file, part := Part.beside(target), target)
        try:
            check_file(part.content, file, f"it was not kept; see whether {file.urls[0]} still is that file")
        except DataError:
            part.remove()  # or every later call would continue it
            raise
        part.version.unlink(missing_ok=True)  # first, because nobody looks for it beside a whole file
        os.replace(part.content, target)
    return target


def check_file(path: Path, file: RemoteFile, advice: str) -> None:
    """Raise a DataError, with advice, if a file's kind, size or id is not the registry's."""
    size, kind = path.stat().st_size, PurePath(file.name).suffix
    with path.open("rb") as stream:
        head = stream.read(len(LFS_POINTER))
    if head == LFS_POINTER:
        raise DataError(f"{path}: is only a Git LFS pointer to the file, {size} bytes; {advice}")
    if not head.startswith(FIRST_BYTES.get(kind, b"")):
        raise DataError(f"{path}: does not begin like a {kind} file ({head[:8]!r}); {advice}")
    if file.size not in (None, size):
        raise DataError(f"{path}: has {size} bytes where {file.size} are expected; {advice}")
    for label, expected, digest in (("git blob id", file.git_blob, _git_blob), ("SHA-256", file.sha256, sha256_file)):
        if expected is not None and (found := digest(path)) != expected:
            raise DataError(f"{path}: {label} is {found} where {expected} is expected; {advice}")
    if kind == ".tgz" and not (file.git_blob or file.sha256):  # it ends with a sum of what was packed (RFC 1952)
        try:
            with gzip.open(path) as packed:
                while packed.read(CHUNK):
                    pass
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(f"{path}: is cut or damaged ({error}); {advice}") from error


def _git_blob(path: Path) -> str:
    """Return the SHA-1 of a header with the size, and the content ("Pro Git", section 10.2)."""
    header = b"blob %d\0" % path.stat().st_size
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.sha1(header)).hexdigest()


def _from_kaggle(dataset: str, page: str, folder: Path) -> Path:
    """Return the folder of a data set: one unpacked by hand, or what kagglehub downloads."""
    place = folder / dataset.split("/")[-1]
    if all((place / name).is_file() for name in KAGGLE_TABLES):
        return place
    try:
        return pull(f"kaggle://{dataset}", data=True)
    except (MissingExtraError, StoreError) as error:
        by_hand = f"download {page} by hand and unpack it so that {place / KAGGLE_TABLES[0]} is there"
        raise type(error)(f"{error}; or {by_hand}") from error


def _from_first(file: RemoteFile, part: Part, target: Path) -> None:
    reasons = []
    for url in file.urls:
        try:
            return download(url, part, file)
        except UnreachableError as error:
            reasons.append(f"{url}: {error}")
    kept = part.begun(file)[0]
    later = f"fetch again to continue after the {kept} bytes kept" if kept else "fetch again later"
    advice = f"{later}, or download it by hand, save it as {target} and fetch again to have it checked"
    raise DataError(f"{file.name}: cannot be downloaded ({'; '.join(reasons)}); {advice}")


class UnreachableError(Exception):
    """An address did not give the file; the message says why."""


class Part(NamedTuple):
    """A file of which only the beginning may have been received."""

    content: Path  # the bytes received so far
    version: Path  # holds the server's name (ETag, date) for their version, or nothing

    @classmethod
    def beside(cls, target: Path) -> Part:
        """Return where `target` is collected while it is downloaded."""
        return cls(*(target.with_name(target.name + end) for end in (".part", ".part.version")))

    def begun(self, file: RemoteFile) -> tuple[int, str]:
        """Return how many bytes a download can continue after, and their version."""
        # Bytes of an unknown one only where the whole will be checked, so that no two are mixed.
        with suppress(OSError, ValueError):
            if (version := self.version.read_text("utf-8").strip()) or file.git_blob or file.sha256:
                return self.content.stat().st_size, version
        return 0, ""

    def remove(self) -> None:
        """Delete what was received."""
        for file in self:
            file.unlink(missing_ok=True)


def download(url: str, part: Part, file: RemoteFile) -> None:
    """Receive a file, or what is missing of it where the server sends ranges of the version begun."""
    # UnreachableError: the address, https or http here, does not give exactly the whole file; what came stays.
    done, version = part.begun(file)
    headers = {"Range": f"bytes={done}-"} if done else {}
    with _open(url, headers | ({"If-Range": version} if version else {})) as response:
        sent = response.headers.get("Content-Range", "")
        if done and sent == f"bytes */{done}":
            return None  # every byte was there already
        same = not version or _version(response) in ("", version)
        if response.status == 200 or (done and same and sent.startswith(f"bytes {done}-")):
            return _receive(response, part, done if response.status != 200 else 0, file)
        if not done:
            raise UnreachableError(f"the server answers {response.status}")
    part.remove()
    return download(url, part, file)


def _version(response: Any) -> str:
    """Return what names a version of the file for certain, '' where nothing does."""
    tag = response.headers.get("ETag", "")
    return str(tag if tag.startswith('"') else response.headers.get("Last-Modified", ""))


def _receive(response: Any, part: Part, start: int, file: RemoteFile) -> None:
    """Write an answer after the bytes that are there, with a progress bar."""
    length = response.headers.get("Content-Length", "")
    total = start + int(length) if length.isdigit() else file.size
    if file.size not in (None, total):
        raise UnreachableError(f"offers {total} bytes where {file.size} are expected")
    if not start:
        part.remove()
        atomic_write(part.version, _version(response))
    bar = progress(desc=file.name, total=total, initial=start, unit="B", unit_scale=True)
    with naming(part.content), bar, part.content.open("ab" if start else "wb") as stream:
        while chunk := _read(response):
            if total is not None and stream.tell() + len(chunk) > total:
                raise UnreachableError(f"sends more than the {total} bytes expected")
            stream.write(chunk)
            bar.update(len(chunk))
        received = stream.tell()
        stream.flush()
        os.fsync(stream.fileno())
    if total is not None and received < total:
        raise UnreachableError(f"the connection ended after {received} of {total} bytes")


def _read(response: Any) -> bytes:
    try:
        return bytes(response.read1(CHUNK))  # what has arrived: a timeout loses none of it
    except (OSError, http.client.HTTPException) as error:
        raise UnreachableError(f"the connection broke ({error})") from error


def _open(url: str, headers: dict[str, str]) -> Any:
    """Open an address; an answer of 416 is returned, any other failure raised."""
    if not _is_safe(url):
        raise UnreachableError("is no https address")
    # Uncompressed on the way, so that positions and lengths are those of the file.
    fixed = {"User-Agent": "xray-captioning", "Accept-Encoding": "identity"}
    request = urllib.request.Request(url, headers=fixed | headers)
    try:
        return urllib.request.build_opener(_Redirects).open(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416:
            return error
        raise UnreachableError(f"the server answers {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise UnreachableError(str(getattr(error, "reason", error))) from error


def _is_safe(url: str) -> bool:
    """Return whether an address is https, or plain HTTP on this machine, where nobody can listen in."""
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to https, and on this machine those that stay on it."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if not _is_safe(newurl) or (req.type, urlsplit(newurl).scheme) == ("https", "http"):
            raise UnreachableError(f"is redirected to {newurl}, which is no https address")
        return super().redirect_request(req, fp, code, msg, headers, newurl)
