"""``python -m tests.tls FOLDER``: for each port of 127.0.0.1 that it reads, says another one at
which it speaks TLS in front of it. What comes there without TLS it passes on as it is: servers
know each other by the ports of their clients."""

import asyncio
import contextlib
import socket
import ssl
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

HANDSHAKE = b"\x16"
"""The first byte of each TLS connection (RFC 8446, section 5.1); no Valkey command begins so."""


class Front:
    def __init__(self, folder: Path) -> None:
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=folder / "ca.crt")
        self._tls.verify_mode = ssl.CERT_REQUIRED
        self._tls.load_cert_chain(folder / "127.0.0.1.crt", folder / "127.0.0.1.key")
        self._tasks = set[asyncio.Task[None]]()

    def listen(self, target: int) -> int:
        server = socket.create_server(("127.0.0.1", 0), backlog=512)
        server.setblocking(False)
        self._run(self._accept(server, target))
        return server.getsockname()[1]

    async def _accept(self, server: socket.socket, target: int) -> None:
        while True:
            peer, _ = await asyncio.get_running_loop().sock_accept(server)
            peer.setblocking(False)
            self._run(self._serve(peer, target))

    async def _serve(self, peer: socket.socket, target: int) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        with contextlib.suppress(OSError):
            tls = self._tls if await first_byte(peer) == HANDSHAKE else None
            # From now on the socket is the transport's, to close it as well.
            transport, _ = await loop.connect_accepted_socket(lambda: protocol, peer, ssl=tls)
            writer = asyncio.StreamWriter(transport, protocol, reader, loop)
            with contextlib.closing(writer):
                far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target)
                await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))

    def _run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def first_byte(peer: socket.socket) -> bytes:
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(peer, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(peer)
    return peer.recv(1, socket.MSG_PEEK)


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()


async def serve(folder: Path) -> None:
    # What a connection that is cut has to say interests nobody.
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    front = Front(folder)
    while target := await asyncio.to_thread(sys.stdin.readline):
        print(front.listen(int(target)), flush=True)


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
