"""One connection to Valkey that pipelines and reconnects by itself.

valkey-py connects (TLS, authentication). From then on, this module reads from and writes to the
transport: one connection shared by all tasks costs a seventh of a client that lends a connection to
each call. Replies are parsed where they arrive, without waking a task. Commands of one turn of the
event loop go out in one write. Replies come in order, so a queue of futures is enough bookkeeping.

A connection is *up* from the end of its set-up (``_on_up``) until it is lost. While it is not up,
every call fails at once with StoreUnavailable: nothing queues up behind a server that is away. A
server that leaves anything unanswered for ``timeout_s`` seconds counts as lost. Time in which this
process itself stood still does not count.
"""

import asyncio
import random
import re
from collections import deque
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any, cast

import libvalkey
import structlog
from valkey.asyncio.connection import AbstractConnection
from valkey.exceptions import ResponseError, ValkeyError

from lore.keepers import Keeper
from lore.metering import Counter, Histogram
from lore.metrics import STORE_CALL, STORE_CONNECTIONS, STORE_ERRORS, STORE_LOST
from lore.store.types import StoreUnavailable
from lore.store.valkey.client.location import Endpoint, hang_up
from lore.store.valkey.client.replies import Denied, error_of

log = structlog.get_logger()

LOADING = "+function|load"
"""A right that some components do not have. The code that loads reports it if it is missing."""
TURN_BYTES = 1 << 16
FIRST_RETRY_S = 0.05
LAST_RETRY_S = 0.5
LOOKS = 4
"""How often a silent connection is checked in each ``timeout_s``."""

_MORE = object()

Tell = Callable[[Any], None]
"""Called with the reply to a command, or with an exception."""
Parse = Callable[[Any], Any]


_METERS = {name: (STORE_CALL[name], STORE_ERRORS[name]) for name in STORE_CALL}


def _meters_of(command: tuple[str | int | bytes, ...]) -> tuple[Histogram, Counter]:
    name = command[1] if command[0] == "FCALL" else command[0]
    return _METERS.get(cast("str", name)) or _METERS["other"]


class Link:
    """A pipelined connection: commands out, replies in order."""

    kind = "calls"

    def __init__(
        self, endpoint: Endpoint, *, timeout_s: float = 5.0, max_in_flight: int = 10_000
    ) -> None:
        self.endpoint = endpoint
        self.is_up = False
        self.came_up = asyncio.Event()
        self.run_id = ""
        """The server's life as primary (P4): its replication id. What Valkey calls run id is not
        enough, because it does not change at a promotion. A primary that was a replica for a while
        has lost what the other primary took, without having been restarted.
        """
        self.is_of_cluster = True
        """Whether the keys of one call must lie in one slot; assumed until the server says."""
        self.on_arrival: Callable[[], None] = _nothing
        """Called when the connection is up."""
        self.on_trouble: Callable[[], None] = _nothing
        """Called when the connection is lost, or its server is of no use."""
        self.problem = ""
        """Why the last attempt to connect again failed."""
        self._timeout_s = timeout_s
        self._max_in_flight = max_in_flight
        self._connection: AbstractConnection | None = None
        self._transport: asyncio.Transport | None = None
        self._out: list[bytes] = []
        self._pending: deque[tuple[Tell, tuple[Histogram, Counter], float]] = deque()
        self._denied: set[str] = set()
        self._wrote_s = self._read_s = 0.0  # by perf_counter: a loop's time is coarse
        self._silent = 0
        """Looks since data last arrived."""
        self._lost: asyncio.Future[None] | None = None
        """Done when the present connection is lost."""
        self._keepers: list[Keeper] = []

    async def connect(self) -> None:
        """Connect. Raises StoreUnavailable when the first attempt fails; later ones are repeated
        for ever.
        """
        await self._open()
        self.start()

    def start(self) -> None:
        """Begin to connect, and try for ever."""
        name = f"{self.kind} to {self.endpoint.name}"
        self._keepers = [
            Keeper(name, self._supervise),
            Keeper(f"{name}: silence", self._watch),
        ]

    async def close(self) -> None:
        try:
            for keeper in self._keepers:
                await keeper.stop()
        finally:
            await self._shut("the store was closed")

    def call(self, *command: str | int | bytes, parse: Parse | None = None) -> asyncio.Future[Any]:
        """Send a command. The future gets its reply, or StoreUnavailable.

        ``parse`` takes the reply where it arrives, and the future gets what it returns. The next
        reply then has the same memory, which is still in the CPU's caches.
        """
        self._check(command)
        return self._send(*command, parse=parse)

    def call_back(self, tell: Tell, command: tuple[str | int | bytes, ...]) -> None:
        """Send a command at once. ``tell`` is called where its reply is read."""
        self._check(command)
        self._put(tell, command)
        self._flush()

    def drop(self) -> None:
        """Give this connection up: all waiting calls fail, and a new connection follows."""
        if self._transport is not None:
            self._transport.abort()

    # for subclasses

    async def _on_up(self) -> None:
        """Set up the new connection, with ``_send``."""

    def _attend(self, now_s: float) -> None:
        """Called now and then while the connection is up. Must return at once."""

    async def _primary(self) -> str:
        """The server's replication id. Raises StoreUnavailable when the server is not a primary."""
        info: str = await self._send("INFO", "replication", "cluster")
        found = dict(re.findall(r"^(role|master_replid|cluster_enabled):(\w+)", info, re.MULTILINE))
        if found.get("role") != "master":
            raise self._away("is a replica")
        self.is_of_cluster = found["cluster_enabled"] == "1"
        return found["master_replid"]

    def _receive(self, reply: Any) -> None:
        tell, (latency, errors), sent_s = self._pending.popleft()
        latency.observe(self._read_s - sent_s)
        errors.inc(isinstance(reply, Exception))
        tell(reply)

    def _send(self, *command: str | int | bytes, parse: Parse | None = None) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._put(partial(_settle, future, parse), command)
        return future

    def _put(self, tell: Tell, command: tuple[str | int | bytes, ...]) -> None:
        if self._transport is None:
            raise self._away("is not connected")
        packed = libvalkey.pack_command(command)
        if not self._pending:
            self._silent = 0
        if not self._out:
            asyncio.get_running_loop().call_soon(self._flush)
            self._wrote_s = perf_counter()
        self._pending.append((tell, _meters_of(command), self._wrote_s))
        self._out.append(packed)

    def _check(self, command: tuple[str | int | bytes, ...]) -> None:
        """Raises StoreUnavailable."""
        if self.is_up and len(self._pending) < self._max_in_flight:
            return
        _meters_of(command)[1].inc()
        if not self.is_up:
            raise self._away("is not connected")
        raise self._away(f"has {self._max_in_flight} calls waiting already")

    def _away(self, what: str) -> StoreUnavailable:
        return StoreUnavailable(f"the store at {self.endpoint.name} {what}")

    # the connection's life

    async def _open(self) -> None:
        connection = await self.endpoint.connection()
        try:
            async with asyncio.timeout(self._timeout_s):
                await connection.connect()
        except BaseException as error:
            await hang_up(connection)
            # uvloop raises RuntimeError for a write to a connection that was closed before.
            if isinstance(error, ValkeyError | OSError | TimeoutError | RuntimeError):
                raise self._away(f"cannot be reached: {_reason(error)}") from None
            raise
        self._connection = connection
        self._lost = asyncio.get_running_loop().create_future()
        self._transport = _take_over(connection, _Wire(self, self._lost))
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._on_up()
            self.is_up = True
            STORE_CONNECTIONS[self.kind].inc()
            self.came_up.set()
            self.on_arrival()
        except TimeoutError:
            await self._shut("did not answer")
            raise self._away("does not answer") from None
        except ResponseError as error:
            await self._shut("could not be set up")
            raise self._away(f"cannot be used: {error}") from None
        except BaseException:
            await self._shut("could not be set up")
            raise

    async def _supervise(self) -> None:
        if self._lost is None:
            await self._reopen(0.0)
        loop, pause_s = asyncio.get_running_loop(), 0.0
        while True:
            assert self._lost is not None
            came_s = loop.time()
            await asyncio.wait([self._lost])
            if loop.time() - came_s > LAST_RETRY_S:
                pause_s = 0.0  # one that breaks soon counts as never up
            await self._shut("was lost")
            STORE_LOST[self.kind].inc()
            log.warning("store lost", store=self.endpoint.name)
            pause_s = _longer(pause_s)
            await self._reopen(pause_s)
            log.info("store back", store=self.endpoint.name)

    async def _reopen(self, pause_s: float) -> None:
        """Try until it works, with growing pauses, so that not all clients connect at once to a
        server that came back.
        """
        self.problem = ""
        while True:
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
            pause_s = _longer(pause_s)
            try:
                return await self._open()
            except StoreUnavailable as error:
                tell = log.debug if str(error) == self.problem else log.warning
                self.problem = str(error)
                tell("store_away", reason=self.problem, retry_s=pause_s)
            except Exception:
                log.exception("store reconnect failed", retry_s=pause_s)

    async def _watch(self) -> None:
        """Drop a connection with unanswered calls, and ping one that has long been silent."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._timeout_s / LOOKS)  # silence is no event
            if self.is_up:
                self._attend(loop.time())
            self._silent += 1
            if not self.is_up or self._silent <= LOOKS:
                continue
            if self._pending:
                self.drop()
            else:
                self._send("PING").add_done_callback(forget)

    def on_data(self, parser: libvalkey.Reader, data: bytes) -> None:
        """The connection received data."""
        self._silent = 0
        self._read_s = perf_counter()
        try:
            parser.feed(data)
            while (reply := parser.gets()) is not _MORE:
                self._receive(reply)
        except libvalkey.ProtocolError:
            self.drop()
        except Exception:
            log.exception("store reply failed", store=self.endpoint.name)
            self.drop()

    def new_parser(self) -> libvalkey.Reader:
        return libvalkey.Reader(
            encoding="utf-8", errors="replace", notEnoughData=_MORE, replyError=self._error
        )

    def on_lost(self, lost: asyncio.Future[None]) -> None:
        """A connection was lost. Another may have replaced it already."""
        if not lost.done():
            lost.set_result(None)
        if lost is self._lost:
            self._on_down()

    def _flush(self) -> None:
        data, self._out = b"".join(self._out), []
        if data and self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def _error(self, message: str) -> Exception:
        """The exception for an error reply."""
        error = error_of(message, self.endpoint.name)
        if message.startswith(("READONLY", "NOREPLICAS")):
            self.drop()  # its name may resolve to another server now
        if message.startswith("CLUSTERDOWN"):
            self.on_trouble()  # the cluster may have replaced it by another server
        if isinstance(error, Denied) and error.right not in {*self._denied, LOADING}:
            self._denied.add(error.right)  # log it once: no caller logs why a store is away
            log.error("store denied", reason=str(error), reply=message)
        return error

    def _on_down(self) -> None:
        STORE_CONNECTIONS[self.kind].dec(self.is_up)
        self.is_up = False

    async def _shut(self, why: str) -> None:
        self._on_down()
        try:
            if self._connection is not None:
                await hang_up(self._connection)
        finally:
            self._forget(why)

    def _forget(self, why: str) -> None:
        self._connection = self._transport = self._lost = None
        self._out.clear()
        while self._pending:
            tell, (_, errors), _ = self._pending.popleft()
            errors.inc()
            tell(self._away(why))
        self.came_up.clear()
        self.on_trouble()


class _Wire(asyncio.Protocol):
    """The protocol that reads from the transport, in place of valkey-py's reader, after the
    handshake.
    """

    def __init__(self, link: Link, lost: asyncio.Future[None]) -> None:
        self.before: asyncio.BaseProtocol | None = None
        """valkey-py's protocol. It still hears of the end, because closing a connection waits for
        that.
        """
        self._link = link
        self._lost = lost
        self._parser = link.new_parser()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._link.on_data(self._parser, data)
        # Let the callers take these replies before more are read: a page of a log takes ten times
        # its bytes in memory, and a hundred readers may ask for one at once.
        if len(data) >= TURN_BYTES and not self._transport.is_closing():
            self._transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._read_on)

    def _read_on(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.before is not None:
            self.before.connection_lost(exc)
        self._link.on_lost(self._lost)


def _take_over(connection: AbstractConnection, wire: _Wire) -> asyncio.Transport:
    """Get the transport from valkey-py, which has no public access to it."""
    writer = connection._writer  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    assert writer is not None
    transport = cast("asyncio.Transport", writer.transport)
    wire.before = transport.get_protocol()
    wire.connection_made(transport)
    transport.set_protocol(wire)
    return transport


def _longer(pause_s: float) -> float:
    return min(max(FIRST_RETRY_S, 2 * pause_s), LAST_RETRY_S)


def _reason(error: BaseException) -> str:
    return str(error).rstrip(".") or type(error).__name__


def _nothing() -> None: ...


def _settle(future: asyncio.Future[Any], parse: Parse | None, reply: Any) -> None:
    if future.done():
        return  # its caller was cancelled
    if isinstance(reply, Exception):
        future.set_exception(reply)
        return
    try:
        future.set_result(reply if parse is None else parse(reply))
    except Exception as error:  # noqa: BLE001 - it is the caller's
        future.set_exception(error)


def forget(future: asyncio.Future[Any]) -> None:
    """Retrieve the result of a future that nobody waits for, so that asyncio does not warn."""
    if not future.cancelled():
        future.exception()
