"""Download one file over HTTP, so that an interrupted download can be continued.

The standard library does it: pooch and requests neither continue a download nor stop at a size, and
huggingface_hub does so for its own hub only. See RFC 9110, "HTTP Semantics", sections 13.1.5
(If-Range) and 14 (range requests).
"""

from __future__ import annotations

import http.client
import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from xray_captioning.files import atomic_write, no_terminal

TIMEOUT = 30.0  # seconds without an answer, or without a further byte
CHUNK = 1 << 18  # bytes
LOOPBACK = ("127.0.0.1", "localhost", "::1")


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

    def begun(self, checked: bool) -> tuple[int, str]:
        """Return how many bytes a download can continue after, and their version.

        Bytes of an unknown version are kept only where the whole file will be `checked` by an id:
        then pieces of two versions cannot pass for one file.
        """
        try:
            version = self.version.read_text("utf-8").strip()
            return (self.content.stat().st_size, version) if version or checked else (0, "")
        except (OSError, ValueError):
            return 0, ""

    def remove(self) -> None:
        """Delete what was received."""
        self.content.unlink(missing_ok=True)
        self.version.unlink(missing_ok=True)


def download(url: str, part: Part, name: str, size: int | None, checked: bool) -> None:
    """Receive a file, or what is missing of it.

    Where the server can send ranges and still has the version that was begun, only the missing
    bytes are asked for; otherwise the download starts again. The address is https, or http on this
    machine, and so must be those that it redirects to. More or fewer bytes than `size` are refused.
    See `Part.begun` for `checked`. Raise UnreachableError if the address does not give the whole
    file; what came stays in the part.
    """
    done, version = part.begun(checked)
    headers = {"Range": f"bytes={done}-"} if done else {}
    with _open(url, headers | ({"If-Range": version} if version else {})) as response:
        sent = response.headers.get("Content-Range", "")
        if done and sent == f"bytes */{done}":
            return  # every byte was there already
        same = not version or _version(response) in ("", version)
        if response.status == 200 or (done and same and sent.startswith(f"bytes {done}-")):
            _receive(response, part, done if response.status != 200 else 0, name, size)
            return
        if not done:
            raise UnreachableError(f"the server answers {response.status}")
    part.remove()
    download(url, part, name, size, checked)


def _version(response: Any) -> str:
    """Return what names a version of the file for certain, '' where nothing does."""
    tag = response.headers.get("ETag", "")
    return str(tag if tag.startswith('"') else response.headers.get("Last-Modified", ""))


def _receive(response: Any, part: Part, start: int, name: str, size: int | None) -> None:
    """Write an answer after the bytes that are there, with a progress bar."""
    from tqdm import tqdm

    total = _total(response, start, size)
    if not start:
        part.remove()
        atomic_write(part.version, _version(response))
    bar = tqdm(
        desc=name, total=total, initial=start, unit="B", unit_scale=True, disable=no_terminal()
    )
    with bar, part.content.open("ab" if start else "wb") as stream:
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


def _total(response: Any, start: int, size: int | None) -> int | None:
    """Return how many bytes the whole file has, None where that is unknown."""
    length = response.headers.get("Content-Length", "")
    if not length.isdigit():
        return size
    total = start + int(length)
    if size not in (None, total):
        raise UnreachableError(f"offers {total} bytes where {size} are expected")
    return total


def _read(response: Any) -> bytes:
    try:
        return bytes(response.read1(CHUNK))  # what has arrived: a timeout loses none of it
    except (OSError, http.client.HTTPException) as error:
        raise UnreachableError(f"the connection broke ({error})") from error


def _open(url: str, headers: dict[str, str]) -> Any:
    """Open an address; an answer of 416 is returned, any other failure raised."""
    if not (urlsplit(url).scheme == "https" or _is_local(url)):
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


def _is_local(url: str) -> bool:
    """Return whether an address is plain HTTP on this machine, where nobody can listen in."""
    parts = urlsplit(url)
    return parts.scheme == "http" and parts.hostname in LOOPBACK


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to https, and on this machine those that stay on it."""

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        stays = _is_local(req.full_url) and _is_local(newurl)
        if not (urlsplit(newurl).scheme == "https" or stays):
            raise UnreachableError(f"is redirected to {newurl}, which is no https address")
        return super().redirect_request(req, fp, code, msg, headers, newurl)
