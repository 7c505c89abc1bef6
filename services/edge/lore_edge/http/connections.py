"""All connections of an edge: their limit, and their deadlines."""

import asyncio
import resource
from collections import Counter
from collections.abc import Callable
from ipaddress import ip_address
from typing import TYPE_CHECKING

import structlog

from lore.metrics import CONNECTIONS_REFUSED, OPEN_CONNECTIONS
from lore_edge.settings import EdgeSettings
from lore_edge.wire.errors import ApiError
from lore_edge.wire.subject import share_of

if TYPE_CHECKING:
    from lore_edge.http.connection import Connection

SWEEP_S = 0.5
RESERVED_FILES = 64  # for the store, the health port, and connections that are refused
MAX_TOLD = 16  # connections that are told at a time why they are refused
WARN_S = 60.0
RETRY_S = 5
_REFUSALS = {
    "limit": (503, "edge_full", "this edge has reached its limit of connections; try again"),
    "address": (
        429,
        "too_many_connections",
        "too many connections from your address; close some, or reuse them",
    ),
}

_log = structlog.get_logger()


class Connections:
    def __init__(
        self,
        settings: EdgeSettings,
        connections: "set[Connection]",
        unready: Callable[[], str | None] = lambda: None,
    ) -> None:
        """``unready`` says why the edge should get no calls, or None."""
        self.waiting: dict[Connection, None] = {}
        """Connections without a call, the longest waiting first. They are closed when there is no
        room.
        """
        self._open = connections
        self._unready = unready
        self._settings = settings
        self._most = self._files = 0
        self._by_address: Counter[str] = Counter()
        self._told: set[Connection] = set()
        self._turned_away = 0
        self._warn_at = 0.0
        self._read_limit()

    @property
    def may_be_kept(self) -> bool:
        """Whether a connection may stay open for another call. Behind a load balancer, only a new
        connection reaches an edge that is ready (E17).
        """
        return self._unready() is None

    def admit(self, connection: "Connection", file: int) -> ApiError | None:
        """Count a new connection, or return why it is refused. ``file`` is its descriptor:
        descriptors are given out from the lowest on, so it also tells how many are in use.
        """
        self._open.add(connection)
        address = self._address(connection)
        if address is not None:
            self._by_address[address] += 1
            if self._by_address[address] > self._settings.max_connections_per_address:
                return self._turn_away("address")
        if len(self._open) > self._most or file >= self._files:
            victim = next(iter(self.waiting), None)
            if victim is None:
                return self._turn_away("limit")
            CONNECTIONS_REFUSED["evicted"].inc()
            self._turned_away += 1
            del self.waiting[victim]
            self._open.discard(victim)
            victim.abort()
            self._warn()
        self.waiting[connection] = None
        return None

    def may_be_told(self, connection: "Connection") -> bool:
        """Whether a refused connection may be told why, which keeps it open for a moment."""
        if len(self._told) >= MAX_TOLD:
            return False
        self._told.add(connection)
        return True

    def on_lost(self, connection: "Connection") -> None:
        self._open.discard(connection)
        self._told.discard(connection)
        self.waiting.pop(connection, None)
        address = self._address(connection)
        if address is not None:
            self._by_address[address] -= 1
            if self._by_address[address] <= 0:
                del self._by_address[address]

    async def sweep(self) -> None:
        """Close connections that have been silent for too long, for as long as the edge runs."""
        now = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(SWEEP_S)  # one timer for all costs less than one each
            self._read_limit()
            OPEN_CONNECTIONS.set(len(self._open))
            at = now()
            for connection in [one for one in self._open if one.deadline <= at]:
                connection.on_deadline()

    def _turn_away(self, reason: str) -> ApiError:
        CONNECTIONS_REFUSED[reason].inc()
        self._turned_away += 1
        self._warn()
        return ApiError(*_REFUSALS[reason], retry_s=RETRY_S)

    def _warn(self) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._warn_at:
            self._warn_at = now + WARN_S
            _log.warning(
                "too many connections",
                open=len(self._open),
                limit=self._most,
                turned_away=self._turned_away,
            )
            self._turned_away = 0

    def _read_limit(self) -> None:
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._files = max(files - RESERVED_FILES, files // 2)
        self._most = min(self._settings.max_connections, self._files)

    def _address(self, connection: "Connection") -> str | None:
        """The address by which connections are counted together; None if they are not."""
        if not self._settings.max_connections_per_address or connection.client is None:
            return None
        address = ip_address(connection.client[0].partition("%")[0])
        if any(address in network for network in self._settings.trusted_proxies):
            return None
        return share_of(address)
