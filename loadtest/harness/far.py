"""A network path with a round trip: what goes in comes out later, none of it waiting for other."""

import asyncio
from typing import Self, cast


class Far:
    """Listens on ``port`` of 127.0.0.1 and passes everything on to ``target``, so much later."""

    def __init__(self, target: int, one_way_s: float) -> None:
        self.target = target
        self.one_way_s = one_way_s
        self.port = 0
        self._ends: set[End] = set()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: End(self, None), "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for end in tuple(self._ends):
            end.transport.abort()

    def add(self, end: "End") -> None:
        self._ends.add(end)

    def discard(self, end: "End") -> None:
        self._ends.discard(end)


class End(asyncio.Protocol):
    """One side of a connection; the side that calls has no other one yet."""

    transport: asyncio.Transport

    def __init__(self, far: Far, other: "End | None") -> None:
        self._far = far
        self._other = other
        self._early: list[bytes] = []
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._far.add(self)
        if self._other is None:
            self._connecting = self._loop.create_task(self._connect())

    async def _connect(self) -> None:
        try:
            _, self._other = await self._loop.create_connection(
                lambda: End(self._far, self), "127.0.0.1", self._far.target
            )
        except OSError:
            self.transport.abort()
            return
        for data in self._early:
            self._pass_on(data)
        self._early.clear()

    def data_received(self, data: bytes) -> None:
        if self._other is None:
            self._early.append(data)
        else:
            self._pass_on(data)

    def _pass_on(self, data: bytes) -> None:
        assert self._other is not None
        self._loop.call_later(self._far.one_way_s, self._other.transport.write, data)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._far.discard(self)
        if self._other is not None:
            self._loop.call_later(self._far.one_way_s, self._other.transport.close)
