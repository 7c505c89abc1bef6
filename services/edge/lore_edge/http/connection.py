"""A client's connection: bytes in, calls of the application out, one at a time and in order.

While a call is being answered, what the peer sends waits here, and reading is paused; it is never
more than one read of the socket. ``Connections.sweep`` checks the deadlines.
"""

import asyncio
import math
import socket
from collections import deque
from collections.abc import Callable
from typing import Any, cast

from uvicorn import Config
from uvicorn.server import ServerState

from lore_edge.http import head
from lore_edge.http.connections import Connections
from lore_edge.http.exchange import App, Exchange, error_response
from lore_edge.http.parser import RequestParser
from lore_edge.settings import EdgeSettings
from lore_edge.wire.asgi import TRANSPORT
from lore_edge.wire.errors import ApiError, count
from lore_edge.wire.sockets import limit_silence

UNREAD_BYTES = 65_536  # of a request's body, in bytes; then reading pauses
LINGER_S = 5.0
LINGER_BYTES = 67_108_864


class Connection(asyncio.Protocol):
    __slots__ = (
        "__weakref__",
        "_app",
        "_connections",
        "_discarded",
        "_drained",
        "_held",
        "_is_reading_paused",
        "_lingering",
        "_parser",
        "_queue",
        "_reading",
        "_refusal",
        "_settings",
        "_state",
        "client",
        "deadline",
        "exchange",
        "is_last",
        "on_lost",
        "peer_ended",
        "transport",
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
        self._parser = RequestParser(self, settings)
        self.transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._drained: asyncio.Future[None] | None = None
        self.on_lost: Callable[[], None] | None = None
        """Called when the peer has left. A waiting task for each of many readers would cost
        more.
        """
        self.client: tuple[str, int] | None = None
        self.deadline = math.inf
        """By the loop's clock; then ``on_deadline`` is called."""
        self.is_last = False
        """No call is accepted after this one."""
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
        """The peer sends no more. Whether it still reads is unknown."""

    # called by the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
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
        """A peer that has ended only its own side gets the answers to its calls. One that follows a
        stream, or waits for a whole answer, counts as gone, because nothing tells the two apart
        (W9).
        """
        self.peer_ended = True
        if self._parser.in_body or (self._parser.in_head and self.exchange is None):
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

    # called by the exchange

    async def drain(self) -> None:
        while self._drained is not None:
            await asyncio.shield(self._drained)

    def date(self) -> bytes:
        return b"".join(b"%b: %b\r\n" % header for header in self._state.default_headers)

    def resume_reading(self) -> None:
        if self._is_reading_paused and not self._held:
            self._is_reading_paused = False
            if not self.transport.is_closing():
                self.transport.resume_reading()

    def on_complete(self, exchange: Exchange) -> None:
        """The response was written."""
        self.exchange = None
        if self.transport.is_closing():
            return
        if self._reading is exchange and self._parser.in_body:
            self._linger()
        elif not exchange.keep_alive or self.ends:
            if self.peer_ended:
                self.transport.close()
            else:
                self._linger()  # what still comes would reset the connection, the answer with it
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
                self.transport.close()

    @property
    def ends(self) -> bool:
        """Whether it closes after the response that begins now."""
        is_last = self.is_last and not self._queue  # else the last call is still to be answered
        return is_last or not self._connections.may_be_kept

    def close(self) -> None:
        self.transport.close()

    def abort(self) -> None:
        self.transport.abort()

    def shutdown(self) -> None:
        """The server stops: no more calls are accepted."""
        self.is_last = True
        if self.exchange is None:
            self.transport.close()
        elif not self.exchange.started:
            self.exchange.keep_alive = False

    def on_deadline(self) -> None:
        self.deadline = math.inf
        settings = self._settings
        if self._lingering:
            self.abort()
        elif self._parser.in_body:
            self._refuse(head.timed_out("body", settings.body_timeout_s))
        elif self._parser.in_head:
            self._refuse(head.timed_out("head", settings.head_timeout_s))
        else:
            self.transport.close()

    # feeding the parser

    @property
    def _is_busy(self) -> bool:
        return self.exchange is not None and not self._parser.in_body

    def _hold(self, data: bytes) -> None:
        self._held += data
        self._pause_reading()

    def _feed(self, data: bytes) -> None:
        view, position = memoryview(data), 0
        if not self._parser.in_body and not self._parser.in_head:
            self.deadline = self._now() + self._settings.head_timeout_s
        while position < len(data):
            if self._lingering or self._refusal is not None or self.transport.is_closing():
                return
            if self._is_busy:
                self._hold(data[position:])
                return
            try:
                position = self._parser.take(data, view, position)
            except ApiError as error:
                self._refuse(error)
                return

    # called by the parser

    def on_head(
        self, method: bytes, version: tuple[int, int], read: head.Head, *, keeps: bool
    ) -> None:
        """``keeps``: whether the peer allows another call on this connection."""
        http_version = "1.0" if version < (1, 1) else "1.1"
        scope = head.scope(method, http_version, read, self.client, {TRANSPORT: self.transport})
        more = read.expects_continue
        exchange = Exchange(self, scope, keep_alive=keeps, expects_continue=more)
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
        if self._reading is not None and self._reading.on_body(body) > UNREAD_BYTES:
            self._pause_reading()

    def on_end(self, *, keeps: bool) -> None:
        self.deadline = math.inf
        if not keeps:
            self.is_last = True
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.on_end()

    # steps

    def _pause_reading(self) -> None:
        if not self._is_reading_paused:
            self._is_reading_paused = True
            self.transport.pause_reading()

    def _await_head(self) -> None:
        self.deadline = self._now() + (
            self._settings.head_timeout_s if self._parser.in_head else self._settings.keep_alive_s
        )
        self._connections.waiting[self] = None

    def _answer(self, exchange: Exchange) -> None:
        self.exchange = exchange
        task = asyncio.get_running_loop().create_task(exchange.run(self._app))
        task.add_done_callback(self._state.tasks.discard)
        self._state.tasks.add(task)

    def _refuse(self, error: ApiError) -> None:
        """Answer a call that cannot be passed on, and close."""
        if self.transport.is_closing() or self._lingering:
            return
        self._refusal = error
        exchange = self.exchange
        if exchange is not None and exchange is not self._reading:
            return  # the answer before it goes first
        count(error)
        if exchange is not None:
            exchange.leave()
            if exchange.started:
                self.abort()
                return
        if exchange is None:
            self.transport.write(error_response(error, self.date()))
        else:
            self.transport.write(exchange.error_response(error))
        self._linger()

    def _linger(self) -> None:
        """Close in an order that loses no answer (RFC 9112 section 9.6)."""
        self._lingering = True
        self._held = b""
        self.deadline = self._now() + LINGER_S
        self.transport.write_eof()
        if self._is_reading_paused:
            self._is_reading_paused = False
            self.transport.resume_reading()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
