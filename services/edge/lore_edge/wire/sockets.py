"""What the peer's TCP has acknowledged, and how much may be queued for it (P8, P11).

A send that returned says only that the bytes are on this machine: the kernel takes megabytes for a
peer that reads nothing. SIOCOUTQ, which equals TIOCOUTQ, tells how many bytes the peer's TCP has
not acknowledged. Behind a proxy, the peer is the proxy, and its acknowledgment counts.
"""

import asyncio
import fcntl
import socket
import struct
import sys
import termios
from bisect import bisect_right
from collections.abc import Awaitable, Callable
from operator import itemgetter
from typing import Any, Protocol, cast

import structlog

from lore.store.base import StoreUnavailable
from lore_client.protocol.receiver import ReceiverConfig, is_worth_an_ack

LINUX = sys.platform == "linux"
TCP_NOTSENT_LOWAT = 25  # the socket module has it since Python 3.12
UNSENT_BYTES = 16_384
MAX_ENDS = 8  # above this, entries of writes that have arrived are removed
PROBES = 3  # so many unanswered probes mean that a silent peer is gone
DELAY_S = ReceiverConfig().ack_delay_s
FIRST_POLL_S = 0.005
POLL_S = 0.1
MAX_POLL_S = 0.5
_log = structlog.get_logger()
_ZERO = struct.pack("i", 0)


class BodyWriter(Protocol):
    written: int

    def write_part(self, body: bytes) -> None: ...


class StreamConnection(Protocol):
    """A connection, as far as this module uses it (``http.Connection``)."""

    on_lost: Callable[[], None] | None
    exchange: BodyWriter
    peer_ended: bool


class StreamSocket:
    """Counts what was written on one stream, and asks the kernel what of it has arrived."""

    __slots__ = ("_arrived", "_connection", "_ends", "_fd", "_transport", "exchange")

    def __init__(self, transport: asyncio.Transport, *, buffer_bytes: int) -> None:
        self._transport = transport
        self._connection = cast("StreamConnection", transport.get_protocol())
        self.exchange = self._connection.exchange
        """It may be written to directly, without waking the stream's task: only while this is idle,
        and only between that task's own writes.
        """
        sock = cast("Any", transport.get_extra_info("socket"))
        self._fd: int = sock.fileno()
        self._arrived = 0
        self._ends: list[tuple[int, int]] = []  # (seq, offset behind it) of each write
        if LINUX and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, UNSENT_BYTES)
        transport.set_write_buffer_limits(high=buffer_bytes)

    def watch(self, on_lost: Callable[[], None] | None) -> None:
        """Call ``on_lost`` when the peer has left; None cancels that."""
        self._connection.on_lost = on_lost
        if on_lost is not None and self._connection.peer_ended:
            on_lost()

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits to be written, and more can be."""
        return not self._transport.get_write_buffer_size() and not self._transport.is_closing()

    def on_written(self, seq: int) -> None:
        """The last event that was written is chunk ``seq``."""
        self._ends.append((seq, self.exchange.written))
        if len(self._ends) > MAX_ENDS:
            self.arrived()

    def arrived(self) -> int:
        """The last seq whose write the peer's TCP has fully acknowledged; 0 before the first."""
        if self._transport.is_closing():
            return self._arrived  # the connection is closed, and what was left was thrown away
        pending = self._transport.get_write_buffer_size() + _unacknowledged(self._fd)
        there = bisect_right(self._ends, self.exchange.written - pending, key=itemgetter(1))
        if there:
            self._arrived = self._ends[there - 1][0]
            del self._ends[:there]
        return self._arrived

    @property
    def is_blocked(self) -> bool:
        """Whether the peer reads more slowly than it is written to."""
        return self._transport.get_write_buffer_size() > 0

    def abort(self) -> None:
        self._transport.abort()


def limit_silence(sock: socket.socket, after_s: float) -> None:
    """Let the kernel drop a peer after ``after_s`` seconds in which it acknowledges nothing that
    was sent, or has no room.
    """
    if LINUX and sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(after_s * 1000))


def notice_death(transport: asyncio.Transport, after_s: float) -> None:
    """Let the kernel probe an idle peer: one that is gone without a word is noticed after about
    ``after_s`` seconds.
    """
    sock = cast("Any", transport.get_extra_info("socket"))
    if not LINUX or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    interval_s = max(1, round(after_s / (1 + PROBES)))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, interval_s)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, interval_s)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBES)


async def arrival(transport: asyncio.Transport, timeout_s: float) -> bool:
    """Wait until the peer's TCP has everything that was written, ``timeout_s`` seconds at most.
    Returns whether it has (P8).
    """
    fd: int = cast("Any", transport.get_extra_info("socket")).fileno()
    loop = asyncio.get_running_loop()
    until, pause_s = loop.time() + timeout_s, FIRST_POLL_S
    while not transport.is_closing():
        if not transport.get_write_buffer_size() and not _unacknowledged(fd):
            return True
        if loop.time() >= until:
            break
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, POLL_S)
    return False


def _unacknowledged(fd: int) -> int:
    """Bytes in the kernel that the peer's TCP has not acknowledged."""
    if not LINUX:
        return 0  # other systems do not offer this; what is left is the process's own
    return struct.unpack("i", fcntl.ioctl(fd, termios.TIOCOUTQ, _ZERO))[0]


class SocketAcks:
    """Acknowledges what the TCP of a reader has acknowledged, if the reader cannot (protocol P8.2).

    The kernel gives no notice, so it is asked while something is on its way: as often as Lore's
    clients acknowledge (P9), and less often while the peer takes nothing.
    """

    def __init__(self, socket: StreamSocket, ack: Callable[[int], Awaitable[None]]) -> None:
        """``ack`` may raise StoreUnavailable; it is then called again."""
        self._socket = socket
        self._ack = ack
        self._loop = asyncio.get_running_loop()
        self._acked = 0
        self._wanted = 0
        self._news = 0
        """The tokens written since something last arrived."""
        self._settled: asyncio.Future[None] | None = None
        self._ending = False
        self._pause_s = 0.0
        """How long to wait before asking again, because the peer or the store took nothing."""
        self._timer: asyncio.TimerHandle | None = None
        self._call: asyncio.Task[None] | None = None

    def on_written(self, seq: int, tokens: int, window: int) -> None:
        """Chunks up to ``seq`` with so many tokens were written; ``window`` is the request's."""
        self._wanted = seq
        self._news += tokens
        if self._call is not None or self._pause_s:
            return
        if is_worth_an_ack(self._news, window):
            self._poll()
        elif self._timer is None:
            self._poll_in(DELAY_S)

    async def settle(self, timeout_s: float) -> None:
        """Wait until everything written is acknowledged, ``timeout_s`` seconds at most."""
        self._ending = True
        if self._timer is not None and not self._pause_s:
            self._poll_in(POLL_S)
        if self._acked < self._wanted:
            self._settled = self._loop.create_future()
            await asyncio.wait([self._settled], timeout=timeout_s)

    def close(self) -> None:
        self._wanted = 0
        self._stop_timer()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _poll_in(self, delay_s: float) -> None:
        self._stop_timer()
        self._timer = self._loop.call_later(delay_s, self._poll)

    def _poll(self) -> None:
        self._stop_timer()
        seq = self._socket.arrived()
        if seq > self._acked:
            self._pause_s, self._news = 0.0, 0
            self._call = self._loop.create_task(self._acknowledge(seq))
        elif self._acked < self._wanted:
            self._pause_s = min(max(2 * self._pause_s, POLL_S), MAX_POLL_S)
            self._poll_in(self._pause_s)

    async def _acknowledge(self, seq: int) -> None:
        try:
            await self._ack(seq)
            self._acked = seq
        except Exception as error:  # noqa: BLE001
            if not isinstance(error, StoreUnavailable):
                _log.exception("socket ack failed")
            self._pause_s = MAX_POLL_S
        finally:
            self._call = None
        if self._acked < self._wanted:
            self._poll_in(self._pause_s or (POLL_S if self._ending else DELAY_S))
        elif self._settled is not None and not self._settled.done():
            self._settled.set_result(None)
