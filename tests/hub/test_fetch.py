"""Downloads from a server on this machine that behaves well and badly."""

import gzip
import hashlib
import json
import os
import re
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from xray_captioning.cli import main
from xray_captioning.errors import DataError, MissingExtraError, StoreError
from xray_captioning.hub import fetch as published
from xray_captioning.hub.fetch import Entry, RemoteFile, fetch, fetch_file, read_registry

CONTENT = bytes(range(256)) * 400  # 102,400 bytes
HALF = len(CONTENT) // 2
BLOB = hashlib.sha1(b"blob 102400\0" + CONTENT).hexdigest()
ABOUT = {"what": "weights", "used": "here", "licence": "unknown", "page": "none"}
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves CONTENT at every path; the path's first part says how."""

    daemon_threads = True
    content, tag = CONTENT, '"one"'

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.sent: list[int] = []  # bytes of each answer
        self.asked: list[str | None] = []  # the Range of each request
        self.go_on = threading.Event()

    def url(self, how: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{how}/weights.bin"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.headers["Range"])
        how = self.path.split("/")[1]
        if how == "missing":
            return self.send_error(404)
        if how in ("elsewhere", "ftp", "round"):
            target = {"elsewhere": "/ranged/x", "ftp": "ftp://127.0.0.1/x"}.get(how, self.path)
            self.send_response(302)
            self.send_header("Location", target)
            return self.end_headers()
        start = self._start() if how != "whole" else 0
        body = self.server.content[start:]
        if start and not body:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{start}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        self.send_response(206 if start else 200)
        if start:
            last = len(self.server.content) - 1
            self.send_header("Content-Range", f"bytes {start}-{last}/{last + 1}")
        if how != "unnamed":
            self.send_header("ETag", self.server.tag)
        if how != "endless":
            lie = {"longer": 1000, "shorter": -1000}.get(how, 0)
            self.send_header("Content-Length", str(len(body) + lie))
        self.end_headers()
        return self._send(how, body)

    def _start(self) -> int:
        """Where the answer begins: RFC 9110 wants the whole file if the version is another."""
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        return int(asked[1]) if asked and self.headers["If-Range"] in (None, self.server.tag) else 0

    def _send(self, how: str, body: bytes) -> None:
        first_time = len(self.server.asked) == 1
        cut = HALF if first_time and how in ("truncated", "whole", "slow", "unnamed", "reset") else None
        # Noted first: the client may be done, and the test look, before this thread goes on.
        self.server.sent.append(len(body[:cut]))
        self.wfile.write(body[:cut])
        self.wfile.flush()
        if how == "reset" and first_time:  # the connection is broken off and not closed
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        if how == "slow" and first_time:
            self.server.go_on.wait(60)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.go_on.set()
        server.shutdown()
        thread.join()


def remote(*urls: str, **known: object) -> RemoteFile:
    return RemoteFile("weights.bin", urls, **known)  # type: ignore[arg-type]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("how", "known"),
    [
        ("ranged", {}),
        ("whole", {"size": 102_400}),
        ("elsewhere", {"git_blob": BLOB}),
        ("endless", {"sha256": SHA256}),
        ("endless", {"git_blob": BLOB, "size": 102_400}),
    ],
)
def test_a_good_file_arrives_once(server: Server, tmp_path: Path, how: str, known: dict[str, object]) -> None:
    server.asked.append(None)  # so that "whole" is served whole at once
    file = remote(server.url(how), **known)
    path = fetch_file(file, tmp_path / "new" / "folder")
    assert path.read_bytes() == CONTENT
    assert names(path.parent) == ["weights.bin"]
    requests = len(server.asked)
    assert fetch_file(file, path.parent) == path
    assert len(server.asked) == requests


@pytest.mark.parametrize(
    ("how", "known", "answers"),
    [
        ("truncated", {}, [HALF, HALF]),
        ("slow", {}, [HALF, HALF]),
        ("whole", {}, [HALF, 2 * HALF]),  # no ranges: it starts again
        ("unnamed", {}, [HALF, 2 * HALF]),  # nothing says whether it still is the same version
        ("unnamed", {"git_blob": BLOB}, [HALF, HALF]),  # the id will say it
    ],
)
def test_an_interrupted_download_goes_on(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
    known: dict[str, object],
    answers: list[int],
) -> None:
    monkeypatch.setattr(published, "TIMEOUT", 0.3)
    file = remote(server.url(how), **known)
    lost = how == "unnamed" and not known
    with pytest.raises(DataError, match=r"weights\.bin: cannot be downloaded \(http://127") as error:
        fetch_file(file, tmp_path)
    assert ("after the 51200 bytes kept" in str(error.value)) == (not lost)
    assert str(tmp_path / "weights.bin") in str(error.value)
    assert not (tmp_path / "weights.bin").exists()
    assert (tmp_path / "weights.bin.part").stat().st_size == HALF
    monkeypatch.setattr(published, "TIMEOUT", 30)
    assert fetch_file(file, tmp_path).read_bytes() == CONTENT
    assert server.sent == answers
    assert server.asked == [None, None if lost else f"bytes={HALF}-"]
    assert names(tmp_path) == ["weights.bin"]


def test_a_changed_file_is_not_pieced_together(server: Server, tmp_path: Path) -> None:
    file = remote(server.url("truncated"))
    with pytest.raises(DataError, match="51200 of 102400 bytes"):
        fetch_file(file, tmp_path)
    server.content, server.tag = CONTENT[::-1], '"two"'
    assert fetch_file(file, tmp_path).read_bytes() == CONTENT[::-1]


def test_two_versions_without_names_are_told_by_the_id(server: Server, tmp_path: Path) -> None:
    file = remote(server.url("unnamed"), git_blob=BLOB)
    server.content = b"another" * 14_000 + bytes(4_400)
    with pytest.raises(DataError, match="51200 of 102400 bytes"):
        fetch_file(file, tmp_path)
    server.content = CONTENT
    with pytest.raises(DataError, match=r"git blob id is .*; it was not kept"):
        fetch_file(file, tmp_path)
    assert fetch_file(file, tmp_path).read_bytes() == CONTENT


def test_a_whole_part_is_only_renamed(server: Server, tmp_path: Path) -> None:
    (tmp_path / "weights.bin.part").write_bytes(CONTENT)
    (tmp_path / "weights.bin.part.version").write_text(server.tag)
    assert fetch_file(remote(server.url("ranged"), git_blob=BLOB), tmp_path).exists()
    assert server.sent == []


def test_a_part_longer_than_the_file_starts_again(server: Server, tmp_path: Path) -> None:
    server.content = CONTENT[:HALF]
    part = tmp_path / "weights.bin.part"
    part.write_bytes(CONTENT)
    (tmp_path / "weights.bin.part.version").write_text(server.tag)

    class Exact(Handler):
        def do_GET(self) -> None:
            if self.headers["Range"]:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{HALF}")
                self.send_header("Content-Length", "0")
                return self.end_headers()
            return super().do_GET()

    server.RequestHandlerClass = Exact
    assert fetch_file(remote(server.url("ranged")), tmp_path).read_bytes() == CONTENT[:HALF]


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ({"git_blob": "0" * 40}, f"git blob id is {BLOB} where {'0' * 40} is expected"),
        ({"sha256": "f" * 64}, f"SHA-256 is {SHA256} where {'f' * 64} is expected"),
        ({"size": 7}, "offers 102400 bytes where 7 are expected"),
    ],
)
def test_a_wrong_file_is_refused(server: Server, tmp_path: Path, known: dict[str, object], message: str) -> None:
    (tmp_path / "mine.txt").write_text("kept")
    for _ in range(2):
        with pytest.raises(DataError, match=message):
            fetch_file(remote(server.url("ranged"), **known), tmp_path)
        assert names(tmp_path) == ["mine.txt"]


def test_a_file_without_an_end_stops_at_its_size(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="sends more than the 1000 bytes expected"):
        fetch_file(remote(server.url("endless"), size=1000), tmp_path)
    assert (tmp_path / "weights.bin.part").stat().st_size <= 1000


def test_what_lies_there_is_never_replaced(server: Server, tmp_path: Path) -> None:
    mine = tmp_path / "weights.bin"
    mine.write_bytes(b"something of mine")
    with pytest.raises(DataError, match=rf"weights\.bin: git blob id is .* where {BLOB}.*move it"):
        fetch_file(remote(server.url("ranged"), git_blob=BLOB), tmp_path)
    assert mine.read_bytes() == b"something of mine"
    assert server.asked == []


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("w.h5", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        ("w.h5", b"<!DOCTYPE html>", r"does not begin like a \.h5 file"),
        ("w.tgz", b"<!DOCTYPE html>", r"does not begin like a \.tgz file"),
    ],
)
def test_a_page_or_pointer_is_recognised(
    server: Server, tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    server.content = content
    with pytest.raises(DataError, match=message):
        fetch_file(RemoteFile(name, (server.url("ranged"),)), tmp_path)
    assert names(tmp_path) == []


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_the_next_address_is_tried(server: Server, tmp_path: Path) -> None:
    nobody = f"http://127.0.0.1:{closed_port()}/weights.bin"
    file = remote(nobody, server.url("missing"), server.url("ranged"), git_blob=BLOB)
    assert fetch_file(file, tmp_path).read_bytes() == CONTENT


def test_every_address_fails(server: Server, tmp_path: Path) -> None:
    nobody = f"http://127.0.0.1:{closed_port()}/weights.bin"
    with pytest.raises(DataError) as error:
        fetch_file(remote(nobody, server.url("missing")), tmp_path)
    message = str(error.value)
    assert nobody in message
    assert f"{server.url('missing')}: the server answers 404" in message
    assert f"download it by hand, save it as {tmp_path / 'weights.bin'}" in message


@pytest.mark.parametrize("how", ["reset", "longer"])
def test_after_a_broken_connection_it_goes_on(server: Server, tmp_path: Path, how: str) -> None:
    file = remote(server.url(how), sha256=SHA256)
    with suppress(DataError):  # a reset may come after the last byte, or take received ones with it
        fetch_file(file, tmp_path)
    assert fetch_file(remote(server.url("ranged"), sha256=SHA256), tmp_path).read_bytes() == CONTENT
    assert names(tmp_path) == ["weights.bin"]


@pytest.mark.parametrize(("how", "message"), [("shorter", "bytes where 102400 are|SHA-256 is"), ("round", "redirect")])
def test_a_lie_or_a_circle_is_told(server: Server, tmp_path: Path, how: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        fetch_file(remote(server.url(how), sha256=SHA256, size=len(CONTENT)), tmp_path)
    assert not (tmp_path / "weights.bin").exists()


def test_only_https_is_asked(tmp_path: Path) -> None:
    urls = ("http://example.org/x", "ftp://127.0.0.1/x", "file:///nowhere", "data:,x", "x")
    with pytest.raises(DataError) as error:
        fetch_file(remote(*urls), tmp_path)
    assert str(error.value).count("is no https address") == len(urls)


def test_redirects_to_other_kinds_are_refused(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is redirected to ftp://127\.0\.0\.1/x"):
        fetch_file(remote(server.url("ftp")), tmp_path)


def test_command(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = {"name": "weights.bin", "urls": [server.url("ranged")], "git_blob": BLOB}
    registry = tmp_path / "registry.json"
    registry.write_text(json.dumps({"weights": {**ABOUT, "files": [file]}}))
    line = ["fetch", "weights", "--registry", str(registry), "--out", str(tmp_path / "out")]
    assert main(line) == 0
    output, error = capsys.readouterr()
    assert "licence: unknown" in output
    assert BLOB in output
    assert output.index("licence") < output.index("is there")
    assert not error
    assert (tmp_path / "out" / "weights.bin").read_bytes() == CONTENT


def test_command_lists_the_shipped_registry(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fetch", "--list"]) == 0
    output = capsys.readouterr().out
    for name in ("chexnet", "attention", "iu-reports", "iu-images", "kaggle"):
        assert re.search(rf"^{name}: ", output, re.M)
    assert main(["fetch"]) == 2
    assert main(["fetch", "moon"]) == 2
    assert "choose one of chexnet, attention" in capsys.readouterr().err


def test_the_shipped_registry_is_sound() -> None:
    for entry in read_registry().values():
        assert entry.licence
        assert entry.files or entry.kaggle
        for file in entry.files:
            assert all(url.startswith("https://") for url in file.urls)
            assert file.git_blob is None or re.fullmatch("[0-9a-f]{40}", file.git_blob)
            assert file.sha256 is None or re.fullmatch("[0-9a-f]{64}", file.sha256)


def test_the_real_files_are_those_of_the_registry(shared_data: Path, tmp_path: Path) -> None:
    registry = read_registry()
    (tmp_path / "NLMCXR_reports.tgz").symlink_to(shared_data / "iu" / "ecgen-radiology.tgz")
    (tmp_path / "tokenizer.pkl").symlink_to(shared_data / "legacy" / "tokenizer.pkl")
    for file in (*registry["iu-reports"].files, registry["attention"].files[1]):
        assert fetch_file(file, tmp_path) == tmp_path / file.name


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "{",
        '{"a": 1}',
        '{"a": {"what": "x"}}',
        json.dumps({"a": {**ABOUT, "files": [{"name": "../x", "urls": ["y"]}]}}),
    ],
)
def test_no_registry(tmp_path: Path, content: str) -> None:
    (tmp_path / "registry.json").write_text(content)
    with pytest.raises(DataError, match=r"registry\.json: .*; see weights/registry\.json"):
        read_registry(tmp_path / "registry.json")
    with pytest.raises(DataError, match="missing"):
        read_registry(tmp_path / "none.json")


KAGGLE = Entry("images", "here", "CC", "https://kaggle.example", kaggle="someone/chest")


def test_kaggle_without_kagglehub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(MissingExtraError, match=r"kagglehub is needed .* https://kaggle\.example by hand") as error:
        fetch(KAGGLE, tmp_path)
    place = tmp_path / "chest"
    assert str(place / "indiana_reports.csv") in str(error.value)
    place.mkdir()
    for name in ("indiana_reports.csv", "indiana_projections.csv"):
        (place / name).touch()
    assert fetch(KAGGLE, tmp_path) == [place]


def test_kaggle_with_kagglehub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(dataset: str) -> str:
        if dataset == "someone/chest":
            return str(tmp_path / "cache")
        raise RuntimeError("no such data set")

    monkeypatch.setitem(sys.modules, "kagglehub", SimpleNamespace(dataset_download=answer))
    assert fetch(KAGGLE, tmp_path) == [tmp_path / "cache"]
    with pytest.raises(StoreError, match=r"the hub refuses \(no such data set\).* or download page by hand"):
        fetch(Entry("", "", "", "page", kaggle="nobody/nothing"), tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="folders are locked by flock")
def test_of_two_at_once_the_second_waits_and_goes_on(server: Server, tmp_path: Path) -> None:
    file = RemoteFile("weights.bin", (server.url("slow"),), sha256=SHA256)
    failed: list[Exception] = []

    def first() -> None:
        try:
            fetch_file(file, tmp_path)
        except DataError as error:
            failed.append(error)

    threads = [threading.Thread(target=first), threading.Thread(target=fetch_file, args=(file, tmp_path))]
    threads[0].start()
    while not server.sent:
        threads[0].join(0.01)
    threads[1].start()
    threads[1].join(0.1)
    assert server.sent == [HALF]  # nothing is asked for twice
    server.go_on.set()
    for thread in threads:
        thread.join(60)
    assert len(failed) == 1
    assert server.sent == [HALF, len(CONTENT) - HALF]
    assert (tmp_path / "weights.bin").read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["weights.bin"]


def test_a_cut_archive_of_which_nothing_is_known_is_noticed(server: Server, tmp_path: Path) -> None:
    packed = gzip.compress(CONTENT)
    file = RemoteFile("images.tgz", (server.url("endless"),))
    for server.content in (packed[:-9], packed[:-5] + b"12345", packed[: len(packed) // 2]):
        with pytest.raises(DataError, match=r"images.tgz.part: is cut or damaged .*; it was not kept"):
            fetch_file(file, tmp_path)
        assert not list(tmp_path.iterdir())
    server.content = packed
    assert fetch_file(file, tmp_path).read_bytes() == packed
