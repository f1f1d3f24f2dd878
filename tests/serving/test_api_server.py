"""The API on a real socket: slow and broken clients, limits, and how it ends."""

import asyncio
import json
import select
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from errno import EMFILE
from http.client import HTTPConnection
from importlib import resources
from pathlib import Path

import pytest

from xray_captioning.errors import XrayCaptioningError
from xray_captioning.serving import Settings, create_app
from xray_captioning.serving.server import READ, Server, _Connection

from .parts import Toy, body, encoded, exchange, post, received, serving, toy_app

LIMITS = Settings(batch=4, body_megabytes=1, seconds=1, milliseconds=1, queue=4, studies=1)
PNG = encoded()


@pytest.fixture(scope="module")
def port():
    with serving(toy_app(LIMITS), LIMITS) as server:
        yield server.port


def document(answer):
    head, _, text = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head.lower()
    assert b"x-request-id:" in head.lower()
    return json.loads(text)


def healthy(port):
    assert exchange(port, post(body(PNG)))[0] == 200
    return exchange(port, b"GET /healthz HTTP/1.0\r\n\r\n")[0] == 200


def test_good_requests_on_one_connection(port):
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    headers = {"Content-Type": "multipart/form-data; boundary=part"}
    for _ in range(3):
        connection.request("POST", "/v1/captions", body(PNG, PNG), headers)
        answer = connection.getresponse()
        assert json.loads(answer.read())["text"].startswith("2 seen.")
    connection.request("POST", "/v1/captions", iter([body(PNG)]), headers)  # in chunks
    assert json.loads(connection.getresponse().read())["text"].startswith("1 seen.")
    connection.close()


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
        (b"GET /\r\nnonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * (300 << 10) + b"\r\n\r\n", 431),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (post(b"", length=10**12), 413),
        (b"GET / HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", 400),
        (b"GET http://[x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404),
        (post(bytes(8 << 20)), 413),  # and it goes on sending all of it
        (
            post(b"", extra="Transfer-Encoding: chunked\r\n").replace(b"Content-Length: 0\r\n", b"")
            + b"200000\r\n"
            + bytes(2 << 20)
            + b"\r\n0\r\n\r\n",
            413,
        ),
        (b"GET /../../nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404),
    ],
)
def test_what_is_no_good_request(port, request_bytes, status):
    found, answer = exchange(port, request_bytes)
    assert found == status
    assert document(answer)["status"] == status
    assert healthy(port)


def test_expect_100_continue_is_answered_before_the_body(port):
    expects = "Expect: 100-continue\r\n"
    status, answer = exchange(port, post(b"", length=10**12, extra=expects))
    assert (status, document(answer)["status"]) == (413, 413)
    request = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    assert b"HTTP/1.1 200" in exchange(port, request + expects.encode() + b"\r\n")[1]
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(post(b"", length=len(body(PNG)), extra=expects))
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 100 Continue")
        connection.sendall(body(PNG))
        assert received(connection)[0] == 200


@pytest.mark.parametrize("sent", [b"POST /v1/capt", post(b"--part\r\n", 500), post(body(PNG))[:-40]])
def test_half_a_request_that_ends(port, sent):
    status, answer = exchange(port, sent, end=True)
    assert status == 400
    assert "before it was complete" in document(answer)["detail"]
    assert healthy(port)


def test_a_refusal_is_one_packet_and_waits_for_nobody(port, monkeypatch):
    written, transport = [], asyncio.selector_events._SelectorSocketTransport
    write = transport.write
    monkeypatch.setattr(transport, "write", lambda self, data: [written.append(bytes(data)), write(self, data)])
    monkeypatch.setattr(transport, "write_eof", lambda self: written.append("waits"))
    status, answer = exchange(port, post(b"--part\r\n", 500), end=True)
    assert (status, document(answer)["status"]) == (400, 400)
    assert written == [answer]


def test_what_uploads_took_goes_back_to_the_system(monkeypatch):
    trimmed = threading.Event()
    monkeypatch.setattr("xray_captioning.serving.server.trim_memory", lambda _: trimmed.set())
    monkeypatch.setattr("xray_captioning.serving.server.TRIM", 1)
    with serving(toy_app(LIMITS), LIMITS):
        assert trimmed.wait(30)


def test_slow_clients_are_cut_off_and_keep_nobody_out(port):
    halves = [b"GET /he", post(b"--part\r\n", 500)] * 40
    slow = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in halves]
    trickling = socket.create_connection(("127.0.0.1", port), timeout=30)
    stopped = threading.Event()

    def trickle():
        trickling.sendall(b"GET / HTTP/1.1\r\n")
        with suppress(OSError):  # until it is cut off
            while not stopped.wait(0.05):
                trickling.sendall(b"X: y\r\n")

    with ThreadPoolExecutor(1) as pool:
        pool.submit(trickle)
        for connection, half in zip(slow, halves):
            connection.sendall(half)
        assert healthy(port)
        answers = [received(connection) for connection in [*slow, trickling]]
        stopped.set()
    assert {status for status, _ in answers} == {408}
    assert "1 second" in document(answers[0][1])["detail"]
    for connection in [*slow, trickling]:
        connection.close()
    assert healthy(port)


def test_an_answer_reaches_a_client_that_has_said_all(port):
    assert exchange(port, post(body(PNG)).replace(b"Connection: close\r\n", b""), end=True)[0] == 200


def test_a_client_that_has_gone_unnoticed_ends_its_connection_alone(monkeypatch):
    paused, data_received = threading.Event(), _Connection.data_received

    def pause(self, data):
        data_received(self, data)
        if self._is_receiving():  # so that the end of the connection stays unread
            self.transport.pause_reading()
            paused.set()

    with serving(toy_app(LIMITS), LIMITS) as server:
        monkeypatch.setattr(_Connection, "data_received", pause)
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as gone:
            gone.sendall(b"GET /he")
            assert paused.wait(30)
        monkeypatch.setattr(_Connection, "data_received", data_received)
        while b'status="408"' not in exchange(server.port, b"GET /metrics HTTP/1.0\r\n\r\n")[1]:
            time.sleep(0.01)  # it was refused
        assert healthy(server.port)


PAGE = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def ask(port, requests):
    """Send requests through a socket that takes few answers as long as nobody reads them."""
    connection = socket.socket()
    connection.settimeout(30)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", port))
    connection.sendall(requests)
    return connection


def test_a_client_that_asks_much_and_reads_late_gets_all(port):
    number = 500  # answers: more than the sockets hold
    page = exchange(port, b"GET / HTTP/1.0\r\n\r\n")[1].partition(b"\r\n\r\n")[2]
    with ask(port, PAGE * number) as connection:
        assert healthy(port)
        file = connection.makefile("rb")
        for _ in range(number):
            assert file.readline().startswith(b"HTTP/1.1 200")
            lines = dict(line.split(b": ", 1) for line in iter(file.readline, b"\r\n"))
            assert file.read(int(lines[b"Content-Length"])) == page


def test_clients_that_never_read_stall_nobody_and_are_cut_off(monkeypatch):
    owed, ahead, check_time = [], [], _Connection.check_time

    def check(self, now):
        owed.append(self.transport.get_write_buffer_size())
        ahead.append(len(self.conn.trailing_data[0]))
        check_time(self, now)

    monkeypatch.setattr(_Connection, "check_time", check)
    limits = Settings(batch=1, body_megabytes=1, seconds=1, queue=1, studies=1)
    with serving(toy_app(limits), limits) as server:
        # More clients than threads.
        deaf = [ask(server.port, PAGE * 2000) for _ in range(limits.queue + 9)]
        assert healthy(server.port)
        for connection in deaf:
            waiting = select.poll()
            waiting.register(connection, 0)
            assert waiting.poll(30_000), "it was not cut off"
            connection.close()
    length = len(resources.files("xray_captioning.serving").joinpath("page.html").read_bytes())
    assert 0 < max(owed) < (1 << 16) + 2 * length  # asyncio's buffer, and one answer more
    assert 0 < max(ahead) <= 2 * READ  # the requests that follow wait in the socket


def test_requests_of_a_client_that_has_gone_are_not_computed():
    toy = Toy()
    app = toy_app(LIMITS, toy)
    toy.go.clear()
    request = post(body(PNG)).replace(b"Connection: close\r\n", b"")
    with serving(app, LIMITS) as server:
        with ask(server.port, request * 10):
            while not app.extensions["captions"].capacity.used:
                time.sleep(0.01)
        toy.go.set()
        assert healthy(server.port)
        assert healthy(server.port)
    assert sum(toy.batches) <= 2 + 2  # the last answer before it is noticed, and the healthy ones


def test_uploads_are_bounded_together():
    limits = Settings(batch=1, body_megabytes=1, upload_megabytes=2, seconds=5)
    with serving(toy_app(limits), limits) as server:
        slow = [socket.create_connection(("127.0.0.1", server.port), timeout=30) for _ in range(9)]
        for connection in slow:  # what is announced does not count
            connection.sendall(post(b"--part\r\n", 1_000_000))
        assert healthy(server.port)
        for connection in slow:
            connection.sendall(bytes(262_000))
        refused = select.select(slow, [], [], 30)[0]
        status, answer = received(refused[0])
        assert status == 503
        assert b"retry-after" in answer.lower()
        for connection in slow:
            connection.close()
        assert healthy(server.port)


def test_nothing_hides_behind_two_lengths(port):
    request = b"POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
    request += b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    status, answer = exchange(port, request + PAGE)
    assert status == 400
    assert b"connection: close" in answer.lower()
    assert answer.count(b"HTTP/1.1") == 1


def test_beyond_the_connections_is_503():
    limits = Settings(batch=1, connections=2)
    health = b"GET /healthz HTTP/1.0\r\n\r\n"
    with serving(toy_app(limits), limits) as server:
        kept = [HTTPConnection("127.0.0.1", server.port, timeout=30) for _ in range(2)]
        for connection in kept:
            connection.request("GET", "/healthz")
            assert connection.getresponse().read()
        status, answer = exchange(server.port, health)
        assert (status, document(answer)["status"]) == (503, 503)
        kept[0].close()
        while exchange(server.port, health)[0] == 503:
            time.sleep(0.01)
        kept[1].close()


def test_a_server_without_descriptors_goes_on_later(port, monkeypatch):
    accept, failures = socket.socket.accept, [OSError(EMFILE, "too many open files")] * 2

    def fail(sock):
        if failures:
            raise failures.pop()
        return accept(sock)

    monkeypatch.setattr(socket.socket, "accept", fail)
    assert healthy(port)
    assert not failures


def test_without_a_token_nothing_is_received():
    limits = Settings(batch=1, token="a" * 20)
    with serving(toy_app(limits), limits) as server:
        status, answer = exchange(server.port, post(b"--part\r\n", 1_000_000))
        assert status == 401
        assert b"www-authenticate: bearer" in answer.lower()
        assert document(answer)["detail"].startswith("show the token")
        status, answer = exchange(server.port, post(b"", length=1_000_000, extra="Expect: 100-continue\r\n"))
        assert (status, document(answer)["status"]) == (401, 401)
        shown = f"Authorization: Bearer {limits.token}\r\n"
        assert exchange(server.port, post(body(PNG), extra=shown))[0] == 200


def test_beyond_the_queue_is_503_and_who_waits_too_long_leaves_it():
    toy = Toy()
    app = toy_app(LIMITS, toy)
    toy.go.clear()
    with serving(app, LIMITS) as server, ThreadPoolExecutor(12) as pool:
        waiting = [pool.submit(exchange, server.port, post(body(PNG))) for _ in range(12)]
        answers = [future.result() for future in waiting]
        assert {status for status, _ in answers} == {503}
        assert all(b"retry-after: 1" in answer.lower() for _, answer in answers)
        assert exchange(server.port, b"GET /healthz HTTP/1.0\r\n\r\n")[0] == 200
        assert app.extensions["captions"].capacity.used == 0
        toy.go.set()
        assert healthy(server.port)
    assert sum(toy.batches) <= 4 + 1  # only what had begun, and the healthy one


def test_requests_are_batched():
    toy = Toy()
    limits = Settings(batch=8, milliseconds=10_000)
    app = toy_app(limits, toy)
    with serving(app, limits) as server, ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(exchange, server.port, post(body(PNG))) for _ in range(8)]
        assert {future.result()[0] for future in answers} == {200}
    assert toy.batches == [8]


def test_stopping_finishes_what_was_accepted():
    toy = Toy()
    limits = Settings(batch=2, milliseconds=1)
    app = toy_app(limits, toy)
    toy.go.clear()
    with serving(app, limits) as server, ThreadPoolExecutor(8) as pool:
        kept = HTTPConnection("127.0.0.1", server.port, timeout=30)
        kept.request("GET", "/healthz")
        kept.getresponse().read()
        answers = [pool.submit(exchange, server.port, post(body(PNG))) for _ in range(6)]
        while app.extensions["captions"].capacity.used < 6:
            time.sleep(0.01)
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as half:
            half.sendall(post(b"--part\r\n", 500))
            assert exchange(server.port, b"GET /readyz HTTP/1.0\r\n\r\n")[0] == 200
            server.stop()
            assert received(half)[0] == 503
        assert kept.sock.recv(1) == b""  # nothing is owed to this one: it is closed
        kept.close()
        with pytest.raises(OSError, match="refused"):
            exchange(server.port, post(body(PNG)))
        toy.go.set()
        assert {future.result()[0] for future in answers} == {200}
        server.thread.join(30)
        assert not server.thread.is_alive()


def test_stopping_waits_neither_for_the_next_client_nor_for_the_compiler():
    toy = Toy()
    limits = Settings(batch=16, connections=1)
    toy.go.clear()
    app = create_app(toy, limits)
    with serving(app, limits) as server:
        clients = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(2)]
        server.stop()
        while not app.extensions["captions"].draining:
            time.sleep(0.01)
        toy.go.set()
        server.thread.join(30)
        assert not server.thread.is_alive()
        for client in clients:
            client.close()
    assert len(toy.batches) == 1  # what had begun


def test_a_model_that_cannot_be_run_ends_the_server(capfd):
    class Broken(Toy):
        def features(self, studies, resized):
            raise MemoryError("no room for Jane Doe")

    limits = Settings(batch=1)
    app = create_app(Broken(), limits)
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        with pytest.raises(XrayCaptioningError, match="cannot be run"):
            Server(app, sock, limits).run()
    assert "cannot be run" in app.test_client().get("/readyz").text
    log = capfd.readouterr().err
    assert "MemoryError" in log
    assert "Jane" not in log


def test_large_uploads_stay_in_memory(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    limits = Settings(batch=1, body_megabytes=8)
    content = post(body(PNG, bytes(6 << 20)))
    before = _open_files()
    with (
        serving(toy_app(limits), limits) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection,
    ):
        connection.sendall(content[:-100])
        assert exchange(server.port, b"GET /healthz HTTP/1.0\r\n\r\n")[0] == 200
        during = _open_files()
        connection.sendall(content[-100:])
        assert received(connection)[0] == 422
    assert during <= before
    assert not list(tmp_path.iterdir())


def _open_files():
    """Return the files of the disk that this process has open, temporary ones included."""
    found = set()
    for path in Path("/proc/self/fd").glob("*"):
        with suppress(OSError):  # closed by now
            found.add(str(path.readlink()))
    return {name for name in found if name.startswith("/") and not name.startswith("/dev/")}
