"""A TCP proxy between two parts, and the weather on it.

Bytes are never lost nor changed within a connection, as TCP's are not: what a network does to
a connection is to be late, to be slow, to go silent, or to end it on one side or on both.
"""

import asyncio
import contextlib
import random
import socket
import struct
from dataclasses import dataclass, field
from typing import Self

READ_BYTES = 65_536
RECEIVE_BUFFER = 65_536
TRICKLE_BYTES = 24
TRICKLE_EVERY_S = 0.02
_LINGER_0 = struct.pack("ii", 1, 0)


@dataclass(eq=False)
class Pair:
    """One connection: ``near`` is who called, ``far`` is who was called."""

    near: asyncio.StreamWriter
    far: asyncio.StreamWriter
    mute: bool = False
    """What either side still sends goes nowhere: half of this connection is gone."""
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def reset(self) -> None:
        for writer in (self.near, self.far):
            reset(writer)
        self.over.set()


def reset(writer: asyncio.StreamWriter) -> None:
    """End it with a RST, as a peer that has rebooted would."""
    sock = writer.get_extra_info("socket")
    if sock is not None and not writer.transport.is_closing():
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)
    writer.transport.abort()


class Proxy:
    """Listens on ``port`` of 127.0.0.1 and passes everything on to ``target``."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self._pairs: set[Pair] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._delay_s = 0.0
        self._trickles = False
        self._clear = asyncio.Event()
        self._clear.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.reset()
        await asyncio.gather(*self._serving, return_exceptions=True)

    # the weather

    def reset(self) -> None:
        for pair in tuple(self._pairs):
            pair.reset()

    async def delay(self, delay_s: float, for_s: float) -> None:
        """Everything arrives later."""
        self._delay_s = delay_s
        await asyncio.sleep(for_s)
        self._delay_s = 0.0

    async def trickle(self, for_s: float) -> None:
        """A few bytes at a time."""
        self._trickles = True
        await asyncio.sleep(for_s)
        self._trickles = False

    async def black_hole(self, for_s: float, *, ends: bool) -> None:
        """Silence in both directions, also on new connections. What is on its way arrives
        afterwards, unless the silence ``ends`` the connections."""
        self._clear.clear()
        await asyncio.sleep(for_s)
        if ends:
            self.reset()
        self._clear.set()

    async def half_open(self, for_s: float, rng: random.Random) -> None:
        """One side is gone, and the other does not know."""
        pairs = tuple(self._pairs)
        for pair in pairs:
            pair.mute = True
            reset(rng.choice((pair.near, pair.far)))
        await asyncio.sleep(for_s)
        for pair in pairs:
            pair.reset()

    # a connection

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await self._call()
        except OSError:
            reset(writer)
            return
        pair = Pair(writer, far_writer)
        self._pairs.add(pair)
        pumps = [
            asyncio.create_task(self._pump(pair, reader, far_writer)),
            asyncio.create_task(self._pump(pair, far_reader, writer)),
            asyncio.create_task(pair.over.wait()),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            if pair.mute:
                await pair.over.wait()
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self._pairs.discard(pair)
            for end in (writer, far_writer):
                with contextlib.suppress(OSError, RuntimeError):
                    end.close()
                    await end.wait_closed()

    async def _call(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Raises OSError."""
        sock = socket.socket()
        # Small, so that what is not passed on is soon the sender's to keep.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.target))
        except OSError:
            sock.close()
            raise
        return await asyncio.open_connection(sock=sock)

    async def _pump(
        self, pair: Pair, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(READ_BYTES):
                if not pair.mute:
                    await self._pass_on(pair, data, writer)

    async def _pass_on(self, pair: Pair, data: bytes, writer: asyncio.StreamWriter) -> None:
        if self._delay_s:
            await asyncio.sleep(self._delay_s)
        while self._trickles and data:
            writer.write(data[:TRICKLE_BYTES])
            data = data[TRICKLE_BYTES:]
            await asyncio.sleep(TRICKLE_EVERY_S)
        await self._clear.wait()
        if not pair.mute:
            writer.write(data)
            await writer.drain()
