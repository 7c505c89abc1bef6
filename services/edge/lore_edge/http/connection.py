"""A reader's connection: bytes in, calls of the application out, one at a time and in order.

Each piece goes through the parser in slices that are counted before the parser keeps them, so
that no head, trailer or chunk extension grows beyond its bound (SECURITY.md). What a peer sends
while its last call is being answered waits here, with reading paused; it is never more than one
read of the socket. Deadlines are looked at by ``Connections.sweep``.
"""

import asyncio
import math
import socket
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import httptools
from uvicorn import Config
from uvicorn.server import ServerState

from lore_edge.errors import ApiError, count
from lore_edge.http import head
from lore_edge.http.connections import Connections
from lore_edge.http.exchange import App, Exchange, error_response
from lore_edge.settings import EdgeSettings
from lore_edge.sockets import limit_silence
from lore_edge.wire import TRANSPORT

UNREAD_BYTES = 65_536  # of a request's body, before reading pauses
CHUNKED_SLICE = 1024  # a slice may hold the end of a chunked body and calls behind it
OVERHEAD = 16  # bytes of chunked framing for each byte of the body; a chunk of 1 byte takes 5
LINGER_S = 5.0
LINGER_BYTES = 67_108_864
_END = b"\r\n\r\n"


class Connection(asyncio.Protocol):
    __slots__ = (
        "__weakref__",
        "_app",
        "_connections",
        "_discarded",
        "_drained",
        "_fed",
        "_fields",
        "_fields_bytes",
        "_held",
        "_in_body",
        "_is_reading_paused",
        "_left",
        "_lingering",
        "_overhead",
        "_parser",
        "_queue",
        "_reading",
        "_refusal",
        "_replays",
        "_settings",
        "_start",
        "_state",
        "_transport",
        "_upgrade",
        "_url",
        "client",
        "deadline",
        "exchange",
        "is_last",
        "on_lost",
        "peer_ended",
    )

    def __init__(
        self,
        *,
        config: Config,
        server_state: ServerState,
        settings: EdgeSettings,
        connections: Connections,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        del app_state, _loop
        self._app = cast("App", config.loaded_app)
        self._state = server_state
        self._settings = settings
        self._connections = connections
        self._parser = httptools.HttpRequestParser(self)
        self._parser.set_dangerous_leniencies(lenient_version=True)  # head.py judges it
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._drained: asyncio.Future[None] | None = None
        self.on_lost: Callable[[], None] | None = None
        """Hears that the peer has left: a task that waits for it is dear with many readers."""
        self.client: tuple[str, int] | None = None
        self.deadline = math.inf
        """By the loop's clock; ``on_deadline`` follows."""
        self.is_last = False
        """No call is taken after this one."""
        self.exchange: Exchange | None = None
        """The call that is being answered."""
        self._reading: Exchange | None = None  # the call whose body is being read
        self._queue: deque[Exchange] | None = None
        self._held = b""
        self._is_reading_paused = False
        self._refusal: ApiError | None = None
        self._lingering = False
        self._discarded = 0
        self.peer_ended = False
        """It sends no more. Whether it still reads, nothing tells."""
        self._upgrade = self._replays = self._in_body = False
        self._left: int | None = 0
        self._overhead = 0
        self._begin_head()

    # the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self.client = peer[:2] if isinstance(peer, tuple) else None
        sock: socket.socket = transport.get_extra_info("socket")
        limit_silence(sock, self._settings.tcp_user_timeout_s)
        refusal = self._connections.admit(self, sock.fileno())
        if refusal is None:
            self.deadline = self._now() + self._settings.head_timeout_s
        elif self._connections.may_be_told(self):
            self._refuse(refusal)
        else:
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._connections.on_lost(self)
        self.deadline = math.inf
        for exchange in (self.exchange, self._reading, *(self._queue or ())):
            if exchange is not None:
                exchange.leave()
        self._queue = None
        self._held = b""
        self.resume_writing()
        if self.on_lost is not None:
            self.on_lost()

    def eof_received(self) -> bool:
        """A peer that has only ended its own side gets what it has asked for; one that follows a
        stream, or waits for a whole answer, has left: nothing tells the two apart."""
        self.peer_ended = True
        if self._in_body or (self._fed and self.exchange is None):
            self._refuse(head.malformed("the request ended before it was complete"))
        if self.exchange is None or self._lingering:
            return False
        self.exchange.half_close()
        if self.on_lost is not None:
            self.on_lost()
        return True

    def data_received(self, data: bytes) -> None:
        if self._lingering:
            self._discarded += len(data)
            if self._discarded > LINGER_BYTES:
                self.abort()
        elif self._is_busy:
            self._hold(data)
        elif self._refusal is None:
            self._feed(data)

    def pause_writing(self) -> None:
        if self._drained is None:
            self._drained = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    # the exchange's side

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    async def drain(self) -> None:
        while self._drained is not None:
            await asyncio.shield(self._drained)

    def date(self) -> bytes:
        return b"".join(b"%b: %b\r\n" % header for header in self._state.default_headers)

    def resume_reading(self) -> None:
        if self._is_reading_paused and not self._held:
            self._is_reading_paused = False
            if not self._transport.is_closing():
                self._transport.resume_reading()

    def on_complete(self, exchange: Exchange) -> None:
        """The response is written."""
        self.exchange = None
        if self._transport.is_closing():
            return
        if self._reading is exchange and self._in_body:
            self._linger()
        elif not exchange.keep_alive or self.is_last:
            if self._is_reading_paused:
                self._linger()
            else:
                self._transport.close()
        elif self._queue:
            self._answer(self._queue.popleft())
        elif self._refusal is not None:
            self._refuse(self._refusal)
        else:
            self._await_head()
            held, self._held = self._held, b""
            if held:
                self._feed(held)
            self.resume_reading()
            if self.peer_ended and self.exchange is None:
                self._transport.close()

    def close(self) -> None:
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    def shutdown(self) -> None:
        """The server stops: no call is taken any more."""
        self.is_last = True
        if self.exchange is None:
            self._transport.close()
        elif not self.exchange.started:
            self.exchange.keep_alive = False

    def on_deadline(self) -> None:
        self.deadline = math.inf
        settings = self._settings
        if self._lingering:
            self.abort()
        elif self._in_body:
            self._refuse(head.timed_out("body", settings.body_timeout_s))
        elif self._fed:
            self._refuse(head.timed_out("head", settings.head_timeout_s))
        else:
            self._transport.close()

    # feeding the parser

    @property
    def _is_busy(self) -> bool:
        return self.exchange is not None and not self._in_body

    def _hold(self, data: bytes) -> None:
        self._held += data
        self._pause_reading()

    def _feed(self, data: bytes) -> None:
        view, position = memoryview(data), 0
        if not self._in_body and not self._fed:
            self.deadline = self._now() + self._settings.head_timeout_s
        while position < len(data):
            if self._lingering or self._refusal is not None or self._transport.is_closing():
                return
            if self._is_busy:
                self._hold(data[position:])
                return
            end = self._slice_end(data, position)
            try:
                self._feed_slice(view[position:end])
            except httptools.HttpParserUpgrade as upgrade:
                end = position + upgrade.args[0]
                self._ignore_upgrade()
            except ApiError as error:
                self._refuse(error)
            position = end

    def _slice_end(self, data: bytes, position: int) -> int:
        if not self._in_body:
            end = data.find(_END, position, position + self._room)
            return end + len(_END) if end >= 0 else position + self._room
        return position + (self._left or CHUNKED_SLICE)

    @property
    def _room(self) -> int:
        return self._settings.max_url_bytes + self._settings.max_head_bytes + 1 - self._fed

    def _feed_slice(self, part: memoryview) -> None:
        """Raises ApiError, and HttpParserUpgrade with the offset of what was not read."""
        if not self._in_body:
            if len(self._start) < len("PRI * HTTP/2"):
                self._start += part[:32]
            self._fed += len(part)
        else:
            self._overhead += len(part)  # on_body takes off what was content
        try:
            self._parser.feed_data(part)
        except httptools.HttpParserCallbackError as error:
            if error.__context__ is None:
                raise
            raise error.__context__ from None
        except httptools.HttpParserError as error:
            raise head.not_understood(self._start, str(error)) from None
        if self._fed and self._room <= 0:
            self._raise_head_too_large()
        if self._left is None and self._overhead > self._settings.max_head_bytes:
            raise head.malformed("chunk extensions and trailers are too long")

    def _ignore_upgrade(self) -> None:
        """Upgrade may be ignored (RFC 9110 section 7.8), and so may not its body: a parser that
        has never seen that field reads it."""
        self._upgrade = False
        self._parser = httptools.HttpRequestParser(self)
        self._parser.set_dangerous_leniencies(lenient_version=True)
        framing = b"transfer-encoding: chunked" if self._left is None else b""
        if self._left:
            framing = b"content-length: %d" % self._left
        self._replays = True
        self._parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n\r\n" % (framing or b"a: b"))

    # the parser's callbacks

    def on_url(self, url: bytes) -> None:
        if self._replays:
            return
        self._url += url
        if len(self._url) > self._settings.max_url_bytes:
            raise head.url_too_long(self._settings.max_url_bytes)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field, or one of a trailer, which is left out (RFC 9110 section 6.5.1)."""
        if self._replays:
            return
        settings = self._settings
        size = len(name) + len(value)
        self._fields_bytes += size
        if size > settings.max_field_bytes:
            told = name[:64].decode("latin-1")
            message = f"{told}: a field is longer than {settings.max_field_bytes} bytes"
            raise head.fields_too_large(message, field=told)
        if self._fields_bytes > settings.max_head_bytes:
            self._raise_head_too_large()
        self._fields.append((name.lower(), value))
        if len(self._fields) > settings.max_fields:
            raise head.fields_too_large(f"there are more than {settings.max_fields} header fields")

    def on_headers_complete(self) -> None:
        if self._replays:
            self._replays = False
            return
        version = tuple(int(part) for part in self._parser.get_http_version().split("."))
        method = self._parser.get_method()
        read = head.read_head(method, self._url, cast("tuple[int, int]", version), self._fields)
        keeps = version >= (1, 1) and self._parser.should_keep_alive()
        self._upgrade = self._parser.should_upgrade()
        exchange = self._exchange(method, version, read, keeps)
        self._begin_head()
        self._in_body, self._left, self._overhead = True, read.length, 0
        self._reading = exchange
        self._connections.waiting.pop(self, None)
        self.deadline = self._now() + self._settings.body_timeout_s
        if not keeps:
            self.is_last = True
        if self.exchange is None:
            self._answer(exchange)
        else:
            self._queue = self._queue or deque()
            self._queue.append(exchange)

    def on_body(self, body: bytes) -> None:
        self._overhead -= (1 + OVERHEAD) * len(body)
        if self._left:
            self._left = self._left - len(body)
        if self._reading is not None and self._reading.on_body(body) > UNREAD_BYTES:
            self._pause_reading()

    def on_message_complete(self) -> None:
        if self._upgrade:
            return  # what the parser takes for the end is the end of the head
        self._in_body = False
        self._begin_head()
        self.deadline = math.inf
        if not self._parser.should_keep_alive():  # a trailer may say so
            self.is_last = True
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.on_end()

    # steps

    def _pause_reading(self) -> None:
        if not self._is_reading_paused:
            self._is_reading_paused = True
            self._transport.pause_reading()

    def _begin_head(self) -> None:
        self._fed = self._fields_bytes = 0
        self._start = self._url = b""
        self._fields: head.Fields = []

    def _await_head(self) -> None:
        self.deadline = self._now() + (
            self._settings.head_timeout_s if self._fed else self._settings.keep_alive_s
        )
        self._connections.waiting[self] = None

    def _exchange(
        self, method: bytes, version: tuple[int, ...], read: head.Head, keeps: bool
    ) -> Exchange:
        http_version = "1.0" if version < (1, 1) else "1.1"
        scope = head.scope(method, http_version, read, self.client, {TRANSPORT: self._transport})
        return Exchange(self, scope, keep_alive=keeps, expects_continue=read.expects_continue)

    def _answer(self, exchange: Exchange) -> None:
        self.exchange = exchange
        task = asyncio.get_running_loop().create_task(exchange.run(self._app))
        task.add_done_callback(self._state.tasks.discard)
        self._state.tasks.add(task)

    def _raise_head_too_large(self) -> None:
        settings = self._settings
        if not self._fields and not self._in_body and len(self._url) >= settings.max_url_bytes:
            raise head.url_too_long(settings.max_url_bytes)
        message = f"the fields are longer than {settings.max_head_bytes} bytes together"
        raise head.fields_too_large(message)

    def _refuse(self, error: ApiError) -> None:
        """Answer what cannot be passed on, and close."""
        if self._transport.is_closing() or self._lingering:
            return
        self._refusal = error
        exchange = self.exchange
        if exchange is not None and exchange is not self._reading:
            return  # its answer comes first
        count(error)
        if exchange is not None:
            exchange.leave()
            if exchange.started:
                self.abort()
                return
        if exchange is None:
            self.write(error_response(error, self.date()))
        else:
            self.write(exchange.error_response(error))
        self._linger()

    def _linger(self) -> None:
        """Close in the order that loses no answer (RFC 9112 section 9.6)."""
        self._lingering = True
        self._held = b""
        self.deadline = self._now() + LINGER_S
        self._transport.write_eof()
        if self._is_reading_paused:
            self._is_reading_paused = False
            self._transport.resume_reading()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
