"""The API on a socket: waitress, with its rough edges towards hostile clients rounded off.

What it adds: waitress' own errors are problem documents, too; a request has to be sent within a
time, however slowly it trickles, and its answer has to be taken; a client's next request waits in
its socket for the answer to this one; uploads are bounded together and not only one by one; an
answer reaches clients that are still sending; and the end of the process loses nothing it has
accepted.
"""

from __future__ import annotations

import logging
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import flask
from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.server import create_server
from waitress.task import ErrorTask, WSGITask

from xray_captioning.errors import XrayCaptioningError
from xray_captioning.serving.api import HEADERS, check_token
from xray_captioning.serving.engine import Engine
from xray_captioning.serving.problems import (
    ProblemError,
    log,
    problem_document,
    request_id,
    trace,
)
from xray_captioning.serving.settings import Settings

CHUNKED = 1 << 13  # bytes of a chunked body that are taken at a time
TURN = 0.25  # seconds between looks at the clock
LINGER = 2.0  # seconds in which a client may go on sending after its last answer
_SAID = {
    400: "this is no HTTP request",
    413: "the request is too large; /v1/model says what is allowed",
    431: "the header is too large",
    501: "this transfer encoding is not understood; send chunked, or a Content-Length",
}


class _ProblemTask(ErrorTask):
    """Answers with a problem document where no request reached the application."""

    def execute(self) -> None:
        error = self.request.error
        if not isinstance(error, ProblemError):
            error = ProblemError(error.code, _SAID.get(error.code, "the server failed"))
        identity = request_id(None)
        text, headers = problem_document(error, identity)
        body = text.encode()
        self.status = f"{int(error.status)} {error.status.phrase}"
        self.response_headers.extend({**HEADERS, **headers}.items())
        self.set_close_on_finish()
        self.content_length = len(body)
        self.channel.server.refused(identity, int(error.status))
        self.write(body)


class _Task(WSGITask):
    """Lets the application answer, for the last time on this connection if the server stops.

    Also after a chunked request: one that names a length as well may be meant to hide another (RFC
    9112, section 6.3), and waitress does not tell.
    """

    def build_response_header(self) -> bytes:
        if self.channel.server.draining or self.request.chunked:
            self.request.headers["CONNECTION"] = "close"
        header: bytes = super().build_response_header()
        return header


class _Request(HTTPRequestParser):
    """A request that is being received."""

    taken = 0  # of the bytes that were given last, those that belong to it
    admitted = False  # its header has been looked at

    def received(self, data: bytes) -> int:
        self.taken = super().received(data)
        if self.headers_finished and not self.completed and not self.admitted:
            self._admit()
        if self.completed:
            self.expect_continue = False  # or waitress would ask for a body, and wait for it
        return len(data)  # or the channel would read on: the next request has to wait

    def _admit(self) -> None:
        """Let nobody send a body, or ask whether to, who has to show a token and does not."""
        self.admitted = True
        try:
            check_token(self.path, self.headers.get("AUTHORIZATION", ""), self.adj.settings)
        except ProblemError as error:
            self.error, self.completed = error, True


class _Channel(HTTPChannel):
    """A connection."""

    task_class = _Task
    error_task_class = _ProblemTask
    parser_class = _Request
    request: Any
    close_when_flushed: bool
    cut_off: float | None = None  # all is said: when to stop listening
    ended = False  # the client has shut its side
    begun: tuple[Any, float] = (None, 0.0)  # the request that is being received, and since when

    def received(self, data: bytes) -> bool:
        taken: bool = super().received(data)
        if self.request is None:
            self.begun = (None, 0.0)
        elif self.request is not self.begun[0]:
            self.begun = (self.request, time.monotonic())
        if self.request is not None and self.request.headers_finished:
            held = sum(channel.held() for channel in self.server.active_channels.values())
            if held > self.adj.settings.upload_megabytes << 20:
                self.refuse(ProblemError(503, "too many uploads at the moment; try again soon"))
        return taken

    def held(self) -> int:
        """Return how many bytes of uploads this connection keeps."""
        requests = [*self.requests, *filter(None, [self.request])]
        return sum(request.body_bytes_received for request in requests)

    def refuse(self, error: ProblemError) -> None:
        """Answer the request that is being received without the rest of it."""
        with self.requests_lock:
            request, self.request = self.request, None
            if request is None:
                return
            request.error, request.completed = error, True
            self.requests.append(request)
            if len(self.requests) == 1:
                self.server.add_task(self)

    def look(self, now: float, seconds: float) -> None:
        """Give up on a client that takes too long."""
        request, since = self.begun
        if request is not None and request is self.request and now - since > seconds:
            self.refuse(ProblemError(408, f"the request was not sent within {seconds:g} seconds"))
        if self.will_close or (self.cut_off is not None and now > self.cut_off):
            self.handle_close()  # also where there is still something that is not taken

    def busy(self) -> bool:
        """Tell whether an answer is owed, or may not have arrived."""
        owed = self.requests or self.total_outbufs_len or self.close_when_flushed
        return bool(owed or self.cut_off is not None)

    def readable(self) -> bool:
        return self.cut_off is not None or (not self.ended and super().readable())

    def writable(self) -> bool:
        if self.cut_off is not None:
            return False
        if self.requests and not self.will_close:
            # Its thread is writing. To ask whether the socket is ready would find it so, over and
            # over, and keep that thread from going on.
            return bool(self.total_outbufs_len >= self.adj.outbuf_high_watermark)
        return bool(super().writable() or self.ended)

    def handle_read(self) -> None:
        if self.cut_off is not None:
            self._discard()
        elif data := self.socket.recv(self._amount(), socket.MSG_PEEK):
            self.last_activity = time.time()
            self.socket.recv(self._take(data))
        else:  # it may still want its answer
            self.ended = True
            self.refuse(ProblemError(400, "the request ended before it was complete"))

    def _amount(self) -> int:
        # The time that waitress takes for chunks goes with the square of what it is given.
        chunked = self.request is not None and self.request.chunked
        return CHUNKED if chunked else int(self.adj.recv_bytes)

    def _take(self, data: bytes) -> int:
        """Take a request or a part of it; return how many bytes that are."""
        # Blank lines may come before a request, RFC 9112, section 2.2.
        taken = 0 if self.request else len(data) - len(data.lstrip(b"\r\n"))
        while taken < len(data):
            request = self.request = self.request or self.parser_class(self.adj)
            try:
                if not self.received(data[taken:]):
                    break
            except ValueError:  # from waitress' parser, which does not expect all nonsense
                self.refuse(ProblemError(400, _SAID[400]))
                return len(data)
            taken += request.taken
            if request.completed and not request.empty:
                break
        return taken

    def handle_write(self) -> None:
        if self.close_when_flushed:
            self._flush_exception(self._flush_some)
            if self.connected and not self.total_outbufs_len:
                # To close at once would take the answer from a client that is still sending.
                self.cut_off, self.close_when_flushed = time.monotonic() + LINGER, False
                self.socket.shutdown(socket.SHUT_WR)
            return
        super().handle_write()
        if self.ended and self.connected and not self.busy():
            self.handle_close()

    def handle_error(self) -> None:
        error = sys.exception()
        if error is not None and not isinstance(error, OSError):  # that is a client that has gone
            log("error", **trace(error))
        self.handle_close()

    def _discard(self) -> None:
        if not self.socket.recv(1 << 18):
            self.handle_close()


class Server:
    """The API on a bound socket.

    Parameters
    ----------
    app : flask.Flask
        As `create_app` returns it.
    sock : socket.socket
        Bound, and not listening yet.
    settings : Settings
        Those of the application.
    """

    def __init__(self, app: flask.Flask, sock: socket.socket, settings: Settings) -> None:
        self._engine: Engine = app.extensions["captions"]
        self._settings, self._stopping = settings, False
        self._map: dict[int, Any] = {}
        body = settings.body_bytes
        self._server = create_server(
            app,
            map=self._map,
            sockets=[sock],
            threads=settings.threads,
            connection_limit=settings.connections,
            backlog=settings.connections,
            channel_timeout=settings.seconds + 1,  # a late request is told so first
            cleanup_interval=1,
            max_request_body_size=body + 1,  # waitress refuses what is as large as the limit
            inbuf_overflow=2 * body,  # what is larger would go to the disk: nothing is
            outbuf_overflow=2 * body,
            recv_bytes=1 << 16,
            ident="xray_captioning",
            clear_untrusted_proxy_headers=True,
        )
        self._server.channel_class = _Channel
        self._server.adj.settings = settings
        self._server.refused, self._server.draining = self._refused, False
        self._looked = time.monotonic()

    def run(self) -> None:
        """Answer requests until `stop` is called, then finish those whose answer has begun.

        Raises
        ------
        XrayCaptioningError
            The model cannot be run.
        """
        with _waitress_quiet():
            while not (self._stopping or self._engine.failed):
                self._turn()
            self._drain()
            self._server.task_dispatcher.shutdown()
            self._engine.close()
            wasyncore.close_all(self._map)
        if self._engine.failed:
            raise XrayCaptioningError("the model cannot be run; the log above tells why")

    def stop(self, *_: Any) -> None:
        """Make `run` come to an end; for signal handlers and other threads."""
        if not self._stopping:
            self._stopping = True
            self._server.pull_trigger()

    def _turn(self) -> None:
        wasyncore.loop(timeout=TURN, use_poll=hasattr(select, "poll"), map=self._map, count=1)
        now = time.monotonic()
        if now - self._looked >= TURN:
            self._looked = now
            for channel in self._channels():
                channel.look(now, self._settings.seconds)

    def _drain(self) -> None:
        log("stopping", studies=self._engine.places.used)
        self._engine.draining = self._server.draining = True  # what comes now is answered with 503
        self._accept()
        self._server.del_channel()
        self._server.socket.close()
        end = time.monotonic() + self._settings.seconds
        busy = True
        while busy and time.monotonic() < end:
            self._turn()
            for channel in self._channels():
                channel.refuse(ProblemError(503, "the server is stopping"))
            busy = any(channel.busy() for channel in self._channels())

    def _accept(self) -> None:
        """Accept who waits at the door, as far as there is room."""
        for _ in range(self._settings.connections):
            before = len(self._channels())
            if select.select([self._server.socket], [], [], 0)[0]:
                self._server.handle_accept()
            if len(self._channels()) == before:
                break

    def _channels(self) -> list[_Channel]:
        return list(self._server.active_channels.values())

    def _refused(self, identity: str, status: int) -> None:
        self._engine.metrics.requests.add(route="none", status=str(status))
        log("request", request_id=identity, method="-", route="none", status=status)


def stop_on_signals(server: Server) -> None:
    """Let SIGTERM and SIGINT stop a server; a second one ends the process at once."""

    def stop(number: int, _: Any) -> None:
        signal.signal(number, signal.SIG_DFL)
        server.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)


class _Events(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        kind = record.exc_info[0] if record.exc_info else None
        log("waitress", at=record.funcName, error=kind.__name__ if kind else None)


@contextmanager
def _waitress_quiet() -> Iterator[None]:
    """Take waitress' words, which may quote a request, out of its log."""
    logger, handler = logging.getLogger("waitress"), _Events(logging.ERROR)
    before = logger.level, logger.propagate
    logger.setLevel(logging.ERROR)
    logger.propagate = False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]
