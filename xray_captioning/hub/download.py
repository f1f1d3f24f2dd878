"""Download one file over HTTP so that an interrupted download goes on where it stopped.

The standard library does it: plain GET requests that can be resumed are all that is needed.

References
----------
.. [1] RFC 9110, "HTTP Semantics", sections 13.1.5 (If-Range) and 14 (range requests).
"""

from __future__ import annotations

import http.client
import os
import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from xray_captioning.files import atomic_write

TIMEOUT = 30.0  # seconds without an answer, or without a further byte
CHUNK = 1 << 18  # bytes
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class UnreachableError(Exception):
    """An address did not give the file; the message says why."""


class Part(NamedTuple):
    """A download under way.

    Attributes
    ----------
    content : Path
        The bytes received so far.
    version : Path
        Names the version on the server that they belong to (an ETag or a date); empty where the
        server names none.
    """

    content: Path
    version: Path

    @classmethod
    def beside(cls, target: Path) -> Part:
        """Return the part of a file that shall be `target` when it is whole."""
        return cls(*(target.with_name(target.name + end) for end in (".part", ".part.version")))

    def begun(self, checked: bool = False) -> tuple[int, str]:
        """Return how many bytes can be gone on with, and their version.

        Without a version that is none, unless the whole will be `checked` by an id: then pieces of
        two versions cannot pass for one file.
        """
        try:
            version = self.version.read_text("utf-8").strip()
            return (self.content.stat().st_size, version) if version or checked else (0, "")
        except (OSError, ValueError):
            return 0, ""

    def remove(self) -> None:
        """Forget what was received."""
        self.content.unlink(missing_ok=True)
        self.version.unlink(missing_ok=True)


def download(
    url: str, part: Part, name: str, size: int | None = None, checked: bool = False
) -> None:
    """Bring a file into its part.

    Where the server can give ranges and still has the version that was begun, only what is
    missing is asked for; otherwise the part begins anew.

    Parameters
    ----------
    url : str
        An https address, or an http one on this machine; redirects may not lead to others.
    part : Part
        Where the bytes go; whole when the function returns.
    name : str
        What the progress bar calls the file.
    size : int, optional
        Bytes of the file, where known: more or fewer are refused.
    checked : bool
        The whole will be compared with an id, so that it may be gone on with even where the server
        names no version.

    Raises
    ------
    UnreachableError
        If the address does not give the whole file; what came stays in the part.
    OSError
        If the part cannot be written.
    """
    done, version = part.begun(checked)
    wanted = {"Range": f"bytes={done}-"} if done else {}
    if version:
        wanted["If-Range"] = version
    with _open(url, wanted) as response:
        if done and response.headers.get("Content-Range") == f"bytes */{done}":
            return  # every byte was there already
        start = _start(response, done, version)
        if start is not None:
            _receive(response, part, start, name, size)
            return
    part.remove()
    download(url, part, name, size, checked)


def _start(response: Any, done: int, version: str) -> int | None:
    """Return where an answer begins, None where it does not follow what was received."""
    if response.status == 200:
        return 0
    if not done:
        raise UnreachableError(f"the server answers {response.status}")
    follows = re.match(rf"bytes {done}-", response.headers.get("Content-Range", ""))
    return done if follows and (not version or _version(response) in ("", version)) else None


def _version(response: Any) -> str:
    """Return what names a version of the file for certain, '' where nothing does."""
    tag = response.headers.get("ETag", "")
    return str(tag if tag.startswith('"') else response.headers.get("Last-Modified", ""))


def _receive(response: Any, part: Part, start: int, name: str, size: int | None) -> None:
    """Write an answer behind the bytes that are there, with a progress bar."""
    from tqdm import tqdm

    total = _total(response, start, size)
    if not start:
        part.remove()
        atomic_write(part.version, _version(response))
    received = start
    bar = tqdm(desc=name, total=total, initial=start, unit="B", unit_scale=True, disable=None)
    with bar, part.content.open("ab" if start else "wb") as stream:
        while chunk := _read(response):
            received += len(chunk)
            if total is not None and received > total:
                raise UnreachableError(f"sends more than the {total} bytes expected")
            stream.write(chunk)
            bar.update(len(chunk))
        stream.flush()
        os.fsync(stream.fileno())
    if total is not None and received < total:
        raise UnreachableError(f"the connection ended after {received} of {total} bytes")


def _total(response: Any, start: int, size: int | None) -> int | None:
    """Return how many bytes the whole file has, None where nobody says."""
    length = response.headers.get("Content-Length", "")
    if not length.isdigit():
        return size
    total = start + int(length)
    if size not in (None, total):
        raise UnreachableError(f"offers {total} bytes where {size} are expected")
    return total


def _read(response: Any) -> bytes:
    try:
        return bytes(response.read1(CHUNK))  # what has come: a timeout shall lose none of it
    except (OSError, http.client.HTTPException) as error:
        raise UnreachableError(f"the connection broke ({error})") from error


def _open(url: str, headers: dict[str, str]) -> Any:
    """Open an address; an answer of 416 is returned, any other failure raised."""
    if not (urlsplit(url).scheme == "https" or _is_local(url)):
        raise UnreachableError("is no https address")
    # Without a coding on the way, so that positions and lengths are those of the file.
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
    """Whether an address is plain HTTP on this machine, where nobody can listen in."""
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
