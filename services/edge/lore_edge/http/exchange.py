"""One request and its response, in ASGI's terms."""

import asyncio
import http
import logging
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import TYPE_CHECKING, Any

from lore_edge.openai.errors import told
from lore_edge.wire.asgi import COMMON_HEADERS, Headers, Receive, Scope, Send
from lore_edge.wire.errors import ApiError

if TYPE_CHECKING:
    from lore_edge.http.connection import Connection

App = Callable[[Scope, Receive, Send], Awaitable[None]]

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode()
    for status in http.HTTPStatus
}
_UNSAFE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_DISCONNECT = {"type": "http.disconnect"}

_log = logging.getLogger(__name__)


class Exchange:
    __slots__ = (
        "_body",
        "_chunked",
        "_connection",
        "_expects_continue",
        "_head",
        "_length",
        "_scope",
        "_waiter",
        "gone",
        "half_closed",
        "keep_alive",
        "more_body",
        "started",
        "written",
    )

    def __init__(
        self, connection: "Connection", scope: Scope, *, keep_alive: bool, expects_continue: bool
    ) -> None:
        self._connection = connection
        self._scope = scope
        self._expects_continue = expects_continue
        self._waiter: asyncio.Future[None] | None = None
        self._body: bytearray | None = bytearray()  # None once its end was passed on
        self._chunked = False
        self._head = b""  # of the response, until it is written
        self._length: int | None = 0  # what is left of the response's body; None if unknown
        self.keep_alive = keep_alive
        self.more_body = True
        self.started = False
        """Whether the response's head was made. It is written with the first part of its body, or
        in the next turn of the event loop.
        """
        self.written = 0
        """Bytes of the response's body, with what frames it."""
        self.half_closed = False
        """The peer sends no more. It may have left; nothing more is known."""
        self.gone = False
        """Nobody waits for the response, or for the rest of it."""

    async def run(self, app: App) -> None:
        connection = self._connection
        try:
            await app(self._scope, self.receive, self.send)
        except Exception:  # noqa: BLE001
            _log.exception("call crashed")
            if self.started:
                connection.abort()
            elif not self.gone:
                self.keep_alive = False
                self._length = 0
                error = ApiError(500, "internal_error", "the edge failed; its log says why")
                connection.transport.write(self.error_response(error))
                self._complete()
        except asyncio.CancelledError:
            connection.abort()
            raise
        else:
            if connection.exchange is self and not self.gone:  # nobody waits for the response
                connection.close()

    async def receive(self) -> MutableMapping[str, Any]:
        if self._body is None:
            while not (self.gone or self.half_closed) and self._connection.exchange is self:
                await self._wait()
            return _DISCONNECT
        if self._expects_continue and not self._body and self.more_body and not self.started:
            self._connection.transport.write(CONTINUE)
        self._expects_continue = False
        self._connection.resume_reading()
        while not self._body and self.more_body and not self.gone:
            await self._wait()
        if self.gone:
            return _DISCONNECT
        body, self._body = bytes(self._body), bytearray() if self.more_body else None
        return {"type": "http.request", "body": body, "more_body": self._body is not None}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if not self.gone:
            await self._connection.drain()
        if self.gone:
            return
        if message["type"] == "http.response.start":
            self._head = self._start(message["status"], message.get("headers", ()))
            # It waits for the body of this turn: each write costs as much as tens of chunks.
            asyncio.get_running_loop().call_soon(self._write)
            return
        body, more = message.get("body", b""), message.get("more_body", False)
        if body and not self.is_head:
            self.write_part(body)
        if not more:
            self._write(b"0\r\n\r\n" if self._chunked else b"")
            self._complete()

    def write_part(self, body: bytes) -> None:
        """Write a part of the response's body, framed as its head says (RFC 9112 section 6)."""
        if self._chunked:
            body = b"%x\r\n%b\r\n" % (len(body), body)
        elif self._length is not None:
            self._length -= len(body)
            if self._length < 0:
                raise RuntimeError("the response is longer than its Content-Length")
        self.written += len(body)
        if self._head or self.gone:
            self._write(body)
        else:  # nearly all parts
            self._connection.transport.write(body)

    def _write(self, body: bytes = b"") -> None:
        body, self._head = self._head + body, b""
        if body and not self.gone:
            self._connection.transport.write(body)

    def on_body(self, data: bytes) -> int:
        """Take a part of the request's body. Returns how many bytes wait to be read."""
        if self._body is None or self.gone:
            return 0
        self._body += data
        self.wake()
        return len(self._body)

    def on_end(self) -> None:
        self.more_body = False
        self.wake()

    def error_response(self, error: ApiError) -> bytes:
        """An error in place of this call's response."""
        path = self._scope["path"]
        return error_response(told(error, path), self._connection.date(), head_only=self.is_head)

    @property
    def is_head(self) -> bool:
        return self._scope["method"] == "HEAD"

    def half_close(self) -> None:
        self.half_closed = True
        self.wake()

    def leave(self) -> None:
        self.gone = True
        self.wake()

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _start(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
        told = None
        parts: list[bytes] = [_STATUS_LINES[status], self._connection.date()]
        for name, value in headers:
            if _UNSAFE.search(value):
                raise RuntimeError(f"a header of the response has a control character: {name!r}")
            if name == b"content-length":
                told = int(value)
            elif name == b"connection" and b"close" in value.lower():
                self.keep_alive = False
                continue
            parts.append(b"%b: %b\r\n" % (name, value))
        bodiless = self.is_head or status in (204, 304)
        self._length = 0 if bodiless else told
        if told is None and not bodiless:
            if self._scope["http_version"] == "1.0":  # ends with the connection
                self.keep_alive = False
            else:
                self._chunked = True
                parts.append(b"transfer-encoding: chunked\r\n")
        if self.more_body or self._connection.ends:
            self.keep_alive = False  # the rest of the body is not read
        if not self.keep_alive:
            parts.append(b"connection: close\r\n")
        parts.append(b"\r\n")
        self.started = True
        return b"".join(parts)

    def _complete(self) -> None:
        if self._length:
            raise RuntimeError("the response is shorter than its Content-Length")
        self.wake()
        self._connection.on_complete(self)


def error_response(error: ApiError, date: bytes, *, head_only: bool = False) -> bytes:
    """A whole response for an error without a call; the connection closes after it."""
    body = error.body()
    headers: Headers = [
        *COMMON_HEADERS,
        *((name.lower().encode(), value.encode()) for name, value in error.headers.items()),
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"),
    ]
    lines = [b"%b: %b\r\n" % header for header in headers]
    return b"".join(
        [_STATUS_LINES[error.status], date, *lines, b"\r\n", b"" if head_only else body]
    )
