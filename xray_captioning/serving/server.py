"""The API on a socket: uvicorn, and the limits that a server without a proxy needs.

Uvicorn reads requests with h11. Added here are limits on connections, on the time in which a client
sends a request or reads its answer, and on the bytes of all uploads together; what uvicorn cannot
read is answered with a problem document. RFC 9112, sections 6.1 (two lengths) and 9.6 (closing).
"""

import asyncio
import io
import signal
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import flask
import h11
import uvicorn
from a2wsgi.wsgi import build_environ
from uvicorn.protocols.http.h11_impl import H11Protocol
from werkzeug import Response

from xray_captioning.errors import XrayCaptioningError
from xray_captioning.files import read_toml, trim_memory
from xray_captioning.serving.api import DETAILS, HEADERS, check_token
from xray_captioning.serving.engine import Engine
from xray_captioning.serving.requests import ProblemError, log, problem_response, request_id, trace
from xray_captioning.serving.settings import Settings

UVICORN = read_toml(__file__, "api.toml")["uvicorn"]
HEADER = 1 << 16  # bytes of the largest header
READ = 1 << 14  # bytes of one read
READ_BODY = 1 << 17  # the same of a body whose length is known: few reads, so that it is soon over
READ_CHUNKED = 1 << 11  # the same of a chunked body: many tiny chunks keep other clients waiting
LINGER = 2.0  # seconds in which a client may go on sending after its last answer
TRIM = 100  # ticks, ten a second, after which what uploads took goes back to the system; glibc would keep it


class Gateway:
    """What `create_app` returns, as an ASGI application that receives bodies within limits."""

    def __init__(self, app: flask.Flask, settings: Settings) -> None:
        self.engine: Engine = app.extensions["captions"]
        self.settings, self._app = settings, app
        # Enough threads to fill the queue, and some for what needs none.
        self.threads = ThreadPoolExecutor(settings.queue + 8, "request")
        self._held = 0  # bytes of all bodies in memory

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        body = io.BytesIO()
        try:
            self._admit(scope)
            await self._receive(receive, body)
            response = await asyncio.get_running_loop().run_in_executor(self.threads, self._answer, scope, body)
        except ProblemError as error:
            response = self.refuse(error)
        except ConnectionError:  # there is no one to answer
            return
        finally:
            self._held -= body.getbuffer().nbytes
        headers = [(name.encode(), value.encode("latin-1")) for name, value in response.headers]
        await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
        await send({"type": "http.response.body", "body": response.get_data()})

    def refuse(self, error: ProblemError) -> Response:
        """Count a request that does not reach the application; return its client's last answer."""
        identity, status = request_id(None), int(error.status)
        self.engine.metrics.requests.labels("none", str(status)).inc()
        log("request", request_id=identity, method="-", route="none", status=status)
        response = problem_response(error, identity)
        response.headers.extend({**HEADERS, "Connection": "close"})
        return response

    def _admit(self, scope: Any) -> None:
        """Refuse what can be refused before the body is received."""
        headers = dict(scope["headers"])
        check_token(scope["path"], headers.get(b"authorization", b"").decode("latin-1"), self.settings)
        if b"content-length" in headers and b"transfer-encoding" in headers:
            # A proxy and this server might not agree where the request ends.
            raise ProblemError(400, "send a Content-Length or a Transfer-Encoding, not both")
        self._check_size(int(headers.get(b"content-length", 0)))

    def _check_size(self, size: int) -> None:
        if size > self.settings.body_bytes:
            raise ProblemError(413, DETAILS[413])

    async def _receive(self, receive: Any, body: io.BytesIO) -> None:
        message = {"more_body": True}
        while message["more_body"]:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ConnectionError
            self._held += body.write(message["body"])
            self._check_size(body.tell())
            if self._held > self.settings.upload_megabytes << 20:
                raise ProblemError(503, "too many uploads at the moment; try again soon")

    def _answer(self, scope: Any, body: io.BytesIO) -> Response:
        length, _ = body.tell(), body.seek(0)
        whole: Any = body  # a2wsgi expects its own type, and uses it as a file
        environ = {**build_environ(scope, whole), "CONTENT_LENGTH": str(length)}
        environ.pop("HTTP_TRANSFER_ENCODING", None)  # the chunks are one body by now
        return Response.from_app(self._app, environ, buffered=True)


class _Transport:
    """A transport that reads no further than it must, and whose `close` waits for the client."""

    # Uvicorn would read on after every request, and keep all that a client sends ahead. A socket that is closed
    # before the client has sent everything takes the answer from it.

    def __init__(self, transport: asyncio.Transport, conn: h11.Connection) -> None:
        self._transport, self._conn, self._closing = transport, conn, False
        self.ended = False  # the client has closed its side
        self.limit_reads(READ)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def limit_reads(self, size: int) -> None:
        self._transport.max_size = size  # type: ignore[attr-defined]  # of asyncio's own transports

    def resume_reading(self) -> None:
        if (self._conn.their_state in (h11.IDLE, h11.SEND_BODY)) or self._closing or not self._conn.trailing_data[0]:
            self._transport.resume_reading()

    def is_closing(self) -> bool:
        return self._closing or self._transport.is_closing()

    def close(self) -> None:
        if self.ended:
            self._transport.close()
        elif not self.is_closing():
            self._closing = True
            try:
                self._transport.write_eof()
            except OSError:  # the client has cut the connection, which its socket knows before asyncio does
                self._transport.abort()
            self.resume_reading()
            asyncio.get_running_loop().call_later(LINGER, self._transport.abort)


class _Connection(H11Protocol):
    """A connection with limits on what its client may take."""

    app: Gateway
    transport: Any
    _state: tuple[Any, ...] = ()
    _since = 0.0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(_Transport(transport, self.conn))
        if len(self.connections) > self.app.settings.connections:
            self.refuse(ProblemError(503, "too many connections at the moment; try again soon"))

    def data_received(self, data: bytes) -> None:
        if not self.transport.is_closing():
            super().data_received(data)
            chunked = b"transfer-encoding" in dict(self.headers or ())
            body = READ_BODY if self.conn.their_state is h11.SEND_BODY else READ
            self.transport.limit_reads(READ_CHUNKED if chunked else body)

    def eof_received(self) -> bool:
        """Keep the connection open where an answer is owed to a client that has sent all."""
        self.transport.ended = True  # so nothing more is waited for
        if not self.transport.is_closing() and self._is_receiving():
            self.refuse(ProblemError(400, "the request ended before it was complete"))
        return not self.transport.is_closing() and self.conn.their_state is not h11.IDLE

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self.transport.resume_reading()
        if self.transport.ended and self.conn.their_state is h11.IDLE:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        error = sys.exception()  # uvicorn calls this while it handles h11's error
        status = error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else 400
        self.refuse(ProblemError(status, DETAILS.get(status, DETAILS[400])))

    def refuse(self, error: ProblemError) -> None:
        """Answer without waiting for the rest of the request, and close."""
        if self.transport.is_closing() or self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.abort()  # an answer was begun
            return
        answer = self.app.refuse(error)
        lines = [f"HTTP/1.1 {answer.status_code} {error.status.phrase}", *map(": ".join, answer.headers)]
        # Past h11, and in one piece: to refuse must cost less than to ask.
        self.transport.write("\r\n".join([*lines, "", ""]).encode("latin-1") + answer.get_data())
        self.transport.close()

    def shutdown(self) -> None:
        if self._is_receiving():
            self.refuse(ProblemError(503, "the server is stopping"))
        elif not self.transport.is_closing():
            self.transport.ended |= self.conn.their_state is h11.IDLE  # no need to wait for it
            super().shutdown()

    def check_time(self, now: float) -> None:
        """End a connection whose client has been waited for too long."""
        owed, seconds = self.transport.get_write_buffer_size() > 0, self.app.settings.seconds
        state = (self.conn.their_state, self.cycle, owed)
        if state != self._state:
            self._state, self._since = state, now
        elif now - self._since <= seconds:
            return
        elif owed:
            self.transport.abort()
        elif self._is_receiving():
            self.refuse(ProblemError(408, f"the request was not sent within {seconds} seconds"))
        elif self.conn.their_state is h11.IDLE:
            self.transport.close()

    def _is_receiving(self) -> bool:
        begun = self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]
        return bool(begun or self.conn.their_state is h11.SEND_BODY)


class Server(uvicorn.Server):
    """What `create_app` returns, on a socket that is bound and not listening yet."""

    def __init__(self, app: flask.Flask, sock: socket.socket, settings: Settings) -> None:
        self._gateway, self._sock = Gateway(app, settings), sock
        self._engine = self._gateway.engine
        sock.listen(settings.connections)
        limits = dict.fromkeys(("timeout_keep_alive", "timeout_graceful_shutdown"), settings.seconds)
        limits |= {"backlog": settings.connections, "h11_max_incomplete_event_size": HEADER}
        super().__init__(uvicorn.Config(self._gateway, http=_Connection, log_config=None, **UVICORN, **limits))

    def run(self, sockets: Any = None) -> None:
        """Answer requests until `stop` is called, then finish those that have come whole."""
        super().run([self._sock])
        self._gateway.threads.shutdown(wait=False, cancel_futures=True)
        self._engine.close()
        if self._engine.failed:
            raise XrayCaptioningError("the model cannot be run; the log above tells why")

    def stop(self) -> None:
        """Make `run` come to an end; for other threads."""
        self.should_exit = True

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Stop at a signal; a second one ends the process at once."""
        signal.signal(sig, signal.SIG_DFL)
        self.stop()

    async def startup(self, sockets: Any = None) -> None:
        """Listen, and log what goes wrong as the application does."""
        asyncio.get_running_loop().set_exception_handler(_log_error)
        await super().startup(sockets)

    async def on_tick(self, counter: int) -> bool:
        """Check the time of all connections; return whether to stop."""
        now = time.monotonic()
        for connection in list(self.server_state.connections):
            connection.check_time(now)
        if counter % TRIM == 0:
            trim_memory(0)
        return await super().on_tick(counter) or self._engine.failed

    async def shutdown(self, sockets: Any = None) -> None:
        """Finish the requests that have come whole, and refuse the others."""
        log("stopping", studies=self._engine.capacity.used)
        self._engine.draining = True
        await super().shutdown(sockets)


def _log_error(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    error = context.get("exception")
    if error is not None and not isinstance(error, OSError):  # that is a client that has gone
        log("error", **trace(error))
