"""uvicorn with Lore's own connections; a stop sends readers elsewhere.

Stopping. uvicorn waits for open connections before it shuts the application down, so streams have
to end by themselves. The order: become unready, wait until load balancers notice, close the
listener, send the readers away over a short time, cut off those that accept no farewell, exit. A
second signal exits at once.
"""

import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any, cast

import structlog
import uvicorn

from lore import keepers
from lore.keepers import Keeper
from lore.lag import measure_lag
from lore_edge.app import Edge
from lore_edge.http.connection import Connection
from lore_edge.http.connections import Connections
from lore_edge.settings import EdgeSettings

WATCH_S = 1.0
CHECKS_PER_LOSS = 3  # how often the store is asked before it counts as lost
STUCK_S = 60.0

_log = structlog.get_logger()


class EdgeServer(uvicorn.Server):
    def __init__(self, edge: Edge, settings: EdgeSettings) -> None:
        super().__init__(
            uvicorn.Config(
                edge,
                http=cast("Any", self._connection),
                ws="none",
                lifespan="off",
                interface="asgi3",
                access_log=False,
                proxy_headers=False,  # LORE_TRUSTED_PROXIES says which proxies to trust
                log_config=None,
                server_header=False,
            )
        )
        self.draining = False
        self._waits_for = ""
        self._beat = time.monotonic()
        self._edge = edge
        self._settings = settings
        open_connections = cast("set[Connection]", self.server_state.connections)
        self.connections = Connections(settings, open_connections, self.ready)
        self._hurry = asyncio.Event()

    def _connection(self, **given: Any) -> Connection:
        return Connection(settings=self._settings, connections=self.connections, **given)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in sockets or []:
            host, port = listener.getsockname()[:2]
            _log.info("listening", host=host, port=port)
        self._keepers = [
            Keeper("watch", self._watch),
            Keeper("connections", self.connections.sweep),
            Keeper("event loop's lag", measure_lag),
        ]

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.draining = True
        _log.info("draining", streams=len(self._edge.streams))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.drain_delay_s):
                await self._hurry.wait()
        drain = asyncio.create_task(self._edge.streams.drain(self._settings.drain_spread_s))
        grace_s = max(1.0, self._settings.grace_s - self._settings.drain_delay_s)
        try:
            async with asyncio.timeout(grace_s):
                await super().shutdown(sockets)
        except TimeoutError:
            self._cut_off()
        drain.cancel()
        for keeper in self._keepers:
            keeper.cancel()

    def _cut_off(self) -> None:
        """Cut the calls that are left when the grace is over. uvicorn would log an error for
        each.
        """
        tasks = list(self.server_state.tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            _log.warning("grace over, calls cut off", calls=len(tasks))

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Let a signal end the process with status 0: uvicorn would raise the signal again."""
        before = {s: signal.signal(s, self.handle_exit) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        del sig, frame
        if self.should_exit:
            self.force_exit = True
            self._hurry.set()
        self.should_exit = True

    def wait_for(self, what: str) -> None:
        """Report what it waits for at its start, and why that is not there. May be called
        repeatedly.
        """
        self._waits_for = what
        self._beat = time.monotonic()

    def live(self) -> str | None:
        """For the health server's thread: an edge under load is alive, a stuck one is not."""
        return "stuck" if time.monotonic() - self._beat > STUCK_S else keepers.live()

    def ready(self) -> str | None:
        if self.draining:
            return "draining"
        if not self.started:
            return self._waits_for or "starting"
        return None if self._edge.streams.store_watch.is_up else "the store is away"

    async def _watch(self) -> None:
        while True:
            self._beat = time.monotonic()
            self._edge.streams.measure()
            self._edge.auth.poll()
            await self._edge.check_store()
            # This beat shows the health server's thread that the loop runs.
            await asyncio.sleep(min(WATCH_S, self._settings.store_lost_s / CHECKS_PER_LOSS))


def bind(host: str, port: int) -> socket.socket:
    """Raises OSError when the address is taken or does not belong to this machine."""
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener
