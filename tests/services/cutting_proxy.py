"""A TCP proxy in front of an edge that cuts streams in the middle of a byte sequence."""

import asyncio
import itertools
import random
import re
from collections import Counter
from collections.abc import Sequence
from typing import Self
from urllib.parse import urlsplit

_STREAM = re.compile(rb"^GET /v1/(?:streams|responses)/([\w-]+)\?", re.MULTILINE)

_CALL = re.compile(rb"^[A-Z]+ /v1/\S+ HTTP/1.1\r\n")

MOST_BYTES = 650
"""The head of a response and the first events; so a cut stream moves on by little."""


class CuttingProxy:
    """Each stream is cut after a random number of bytes, until ``cuts[request_id]`` is ``times``.

    Proxies that share ``cuts`` count together. One in front of several edges goes to another of
    them with each connection, and ``by_call`` has each call come by a connection of its own.
    """

    def __init__(
        self,
        edge: str | Sequence[str],
        cuts: Counter[str],
        *,
        times: int,
        rng: random.Random,
        most_bytes: int = MOST_BYTES,
        by_call: bool = False,
    ) -> None:
        edges = [edge] if isinstance(edge, str) else edge
        parts = [urlsplit(url) for url in edges]
        self._edges = itertools.cycle([(part.hostname, part.port) for part in parts])
        self._cuts = cuts
        self._times = times
        self._rng = rng
        self._most_bytes = most_bytes
        self._by_call = by_call
        self._serving: set[asyncio.Task[None]] = set()
        self.url = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        if self._serving:
            await asyncio.wait(self._serving, timeout=10)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        edge_reader, edge_writer = await asyncio.open_connection(*next(self._edges))
        stream: list[str] = []
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._up(reader, edge_writer, stream))
                both.create_task(self._down(edge_reader, writer, stream))
        except* ConnectionError:
            pass  # one end left, or was cut
        finally:
            writer.transport.abort()
            edge_writer.transport.abort()

    async def _up(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, stream: list[str]
    ) -> None:
        while data := await reader.read(65_536):
            stream[:] = [name.decode() for name in _STREAM.findall(data)]
            if self._by_call:
                data = _CALL.sub(rb"\g<0>Connection: close\r\n", data)
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError

    async def _down(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, stream: list[str]
    ) -> None:
        left = self._rng.randint(0, self._most_bytes)
        while data := await reader.read(65_536):
            if stream and self._cuts[stream[0]] < self._times:
                data = data[:left]
                left -= len(data)
                if left == 0:
                    self._cuts[stream[0]] += 1
                    writer.write(data)
                    await writer.drain()
                    raise ConnectionResetError
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError
