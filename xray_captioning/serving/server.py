"""The API on a socket: uvicorn, and the limits that a server without a proxy needs.

Uvicorn parses requests with h11 and answers them in order; what is added here are a limit on the
number of connections, on the time that a client takes to send a request or to read its answer, and
on the bytes of all uploads together. What it cannot parse is answered with a problem document.

References
----------
.. [1] RFC 9112, HTTP/1.1, sections 6.1 (two lengths), 9.6 (closing a connection).
.. [2] PEP 3333, Python Web Server Gateway Interface.
"""

from __future__ import annotations

import asyncio
import io
import logging
import signal
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any

import flask
import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from werkzeug import Response

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

HEADER_BYTES = 1 << 16  # largest header of a request
TURN = 0.05  # seconds until a full server tries again to accept a connection
READ = 1 << 14  # bytes taken at a time: of chunks of a byte, more would stop all others too long
LINGER = 2.0  # seconds in which a client may go on sending after its last answer
_DETAILS = {
    400: "this is no HTTP request",
    431: "the header is too large",
    501: "this transfer encoding is not understood; send chunked, or a Content-Length",
}


class Gateway:
    """The Flask application as an ASGI application that receives bodies within limits.

    Parameters
    ----------
    app : flask.Flask
        As `create_app` returns it.
    settings : Settings
        Those of the application.
    """

    def __init__(self, app: flask.Flask, settings: Settings) -> None:
        self.engine: Engine = app.extensions["captions"]
        self.settings, self._app = settings, app
        self.threads = ThreadPoolExecutor(settings.threads, "request")
        self._held = 0  # bytes of all bodies that are in memory

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        body = io.BytesIO()
        try:
            self._admit(scope)
            if not await self._receive(receive, body):
                return  # the client has gone
            loop = asyncio.get_running_loop()
            response = await loop.run_in_executor(self.threads, self._answer, scope, body)
        except ProblemError as error:
            response = self.refuse(error)
        finally:
            self._held -= body.tell()
        headers = [(name.encode(), value.encode("latin-1")) for name, value in response.headers]
        start = {"type": "http.response.start", "status": response.status_code, "headers": headers}
        await send(start)
        await send({"type": "http.response.body", "body": response.get_data()})

    def refuse(self, error: ProblemError) -> Response:
        """Count a request that does not reach the application; return its last answer."""
        identity, status = request_id(None), int(error.status)
        self.engine.metrics.requests.labels("none", str(status)).inc()
        log("request", request_id=identity, method="-", route="none", status=status)
        text, headers = problem_document(error, identity)
        return Response(text, status, {**HEADERS, **headers, "Connection": "close"})

    def _admit(self, scope: Any) -> None:
        """Refuse a request before its body is received."""
        headers = dict(scope["headers"])
        check_token(
            scope["path"], headers.get(b"authorization", b"").decode("latin-1"), self.settings
        )
        if b"content-length" in headers and b"transfer-encoding" in headers:
            # Meant to be two requests to one program and one to another.
            raise ProblemError(400, "send a Content-Length or a Transfer-Encoding, not both")
        self._check_size(int(headers.get(b"content-length", 0)))

    def _check_size(self, size: int) -> None:
        if size > self.settings.body_bytes:
            raise ProblemError(413, "the request is too large; /v1/model says what is allowed")

    async def _receive(self, receive: Any, body: io.BytesIO) -> bool:
        """Read a body to its end; tell whether the client stayed so long."""
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return False
            self._held += body.write(message["body"])
            self._check_size(body.tell())
            if self._held > self.settings.upload_megabytes << 20:
                raise ProblemError(503, "too many uploads at the moment; try again soon")
            more = message["more_body"]
        return True

    def _answer(self, scope: Any, body: io.BytesIO) -> Response:
        return Response.from_app(self._app, _environ(scope, body), buffered=True)


def _environ(scope: Any, body: io.BytesIO) -> dict[str, Any]:
    """Return an ASGI scope and a whole body as WSGI has them."""
    length, _ = body.tell(), body.seek(0)
    host, port = scope["server"] or ("localhost", None)
    environ = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": scope["path"].encode().decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "SERVER_NAME": host,
        "SERVER_PORT": str(port or 0),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.input": body,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for name, value in scope["headers"]:
        if b"_" not in name:  # or X_Request_ID would pass for X-Request-ID
            key, text = f"HTTP_{name.decode().upper().replace('-', '_')}", value.decode("latin-1")
            environ[key] = f"{environ[key]},{text}" if key in environ else text
    environ["CONTENT_TYPE"] = environ.pop("HTTP_CONTENT_TYPE", "")
    environ["CONTENT_LENGTH"] = str(length)
    return environ


class _Lingering:
    """A transport whose `close` lets the client finish sending, or it might lose its answer."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport, self._closing = transport, False
        self.ended = False  # the client has shut its side

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        return self._closing or self._transport.is_closing()

    def close(self) -> None:
        if self.ended:
            self._transport.close()
        elif not self.is_closing():
            self._closing = True
            self._transport.write_eof()
            self._transport.resume_reading()
            asyncio.get_running_loop().call_later(LINGER, self._transport.abort)


class _Connection(H11Protocol):
    """A connection whose client may neither send nor read for ever."""

    app: Gateway
    transport: Any
    _state: tuple[Any, ...] = ()
    _since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:
        transport.max_size = READ  # type: ignore[attr-defined]  # asyncio's own, of one read
        super().connection_made(_Lingering(transport))

    def data_received(self, data: bytes) -> None:
        if not self.transport.is_closing():
            super().data_received(data)

    def eof_received(self) -> bool:
        """Keep the connection where an answer is owed to a client that has sent all."""
        if not self.transport.is_closing() and self._is_receiving():
            self.refuse(ProblemError(400, "the request ended before it was complete"))
        self.transport.ended = True
        return not self.transport.is_closing() and self.conn.their_state is not h11.IDLE

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.ended and self.conn.their_state is h11.IDLE:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        error = sys.exception()  # what h11 says of the request
        status = error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else 400
        self.refuse(ProblemError(status, _DETAILS.get(status, _DETAILS[400])))

    def refuse(self, error: ProblemError) -> None:
        """Answer the request that is being received without the rest of it, and close."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.abort()  # an answer was begun
            return
        answer = self.app.refuse(error)
        response = h11.Response(
            status_code=answer.status_code, headers=list(answer.headers), reason=error.status.phrase
        )
        for event in (response, h11.Data(answer.get_data()), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event))
        self.transport.close()

    def shutdown(self) -> None:
        if self._is_receiving():
            self.refuse(ProblemError(503, "the server is stopping"))
        elif not self.transport.is_closing():
            super().shutdown()

    def look(self, now: float) -> None:
        """Give up on a client that has done nothing for too long, or one byte now and then."""
        owed = self.transport.get_write_buffer_size() > 0
        state = (self.conn.their_state, self.cycle, owed)
        if state != self._state:
            self._state, self._since = state, now
        elif now - self._since > self.app.settings.seconds:
            self._give_up(owed)

    def _give_up(self, owed: bool) -> None:
        if owed:
            self.transport.abort()
        elif self._is_receiving():
            seconds = self.app.settings.seconds
            self.refuse(ProblemError(408, f"the request was not sent within {seconds} seconds"))
        elif self.conn.their_state is h11.IDLE:
            self.transport.close()

    def _is_receiving(self) -> bool:
        """Tell whether a request has begun and not ended."""
        begun = self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]
        return bool(begun or self.conn.their_state is h11.SEND_BODY)


class Server(uvicorn.Server):
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
        self._gateway, self._sock = Gateway(app, settings), sock
        self._engine = self._gateway.engine
        sock.listen(settings.connections)
        sock.setblocking(False)
        config = uvicorn.Config(
            self._gateway,
            http=_Connection,
            interface="asgi3",
            lifespan="off",
            ws="none",
            loop="asyncio",
            log_config=None,
            log_level=logging.CRITICAL,  # its messages may quote a request
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=settings.seconds,
            timeout_graceful_shutdown=settings.seconds,
            h11_max_incomplete_event_size=HEADER_BYTES,
        )
        super().__init__(config)

    def run(self, sockets: Any = None) -> None:
        """Answer requests until `stop` is called, then finish those that have come whole.

        Raises
        ------
        XrayCaptioningError
            The model cannot be run.
        """
        super().run(sockets=[])
        self._gateway.threads.shutdown(wait=False, cancel_futures=True)
        self._engine.close()
        if self._engine.failed:
            raise XrayCaptioningError("the model cannot be run; the log above tells why")

    def stop(self) -> None:
        """Make `run` come to an end; for other threads."""
        self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop at a signal; a second one ends the process at once."""
        signal.signal(sig, signal.SIG_DFL)
        self.stop()

    async def startup(self, sockets: Any = None) -> None:  # noqa: D102
        await super().startup(sockets)
        asyncio.get_running_loop().set_exception_handler(_log_error)
        self._accepting = asyncio.create_task(self._accept())

    async def _accept(self) -> None:
        """Accept connections as long as there is room; the others wait."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, _ = await loop.sock_accept(self._sock)
                await loop.connect_accepted_socket(self._connection, client)
            except OSError:  # no descriptor is left, or the client has gone
                await asyncio.sleep(TURN)
            while len(self.server_state.connections) >= self._gateway.settings.connections:
                await asyncio.sleep(TURN)

    def _connection(self) -> _Connection:
        return _Connection(self.config, self.server_state, {})

    async def on_tick(self, counter: int) -> bool:  # noqa: D102
        now = time.monotonic()
        for connection in list(self.server_state.connections):
            connection.look(now)
        return await super().on_tick(counter) or self._engine.failed

    async def shutdown(self, sockets: Any = None) -> None:  # noqa: D102
        log("stopping", studies=self._engine.capacity.used)
        self._engine.draining = True  # what has not begun is answered with 503
        self._accepting.cancel()
        await asyncio.wait([self._accepting])
        self._sock.close()
        await super().shutdown(sockets)


def _log_error(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    error = context.get("exception")
    if error is not None and not isinstance(error, OSError):  # that is a client that has gone
        log("error", **trace(error))
