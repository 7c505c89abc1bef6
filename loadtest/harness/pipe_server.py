"""The bare pipe's second half: one subscription a reader, and what comes goes out as it is.

As thin as it can be with the libraries that the edge has: uvicorn with uvloop and httptools,
raw ASGI, libvalkey's parser, and everything that waits for a reader joined into one write.
``GET /<channel>`` is a stream. ``GET /bytes/<n>`` answers with n bytes from memory,
``GET /key/<name>`` with the value of a key, and ``POST /ack/<name>`` sets one, each with one
command. Usage: pipe_server PORT VALKEY_PORT
"""

import asyncio
import contextlib
import json
import sys
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, cast

import libvalkey
import uvicorn
import uvloop

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
HEADERS = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-store")]


class Reader:
    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.gone = False
        self._future: asyncio.Future[None] | None = None

    def push(self, data: bytes) -> None:
        self.parts.append(data)
        self.wake()

    def wake(self) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    async def wait(self) -> None:
        if not self.parts and not self.gone:
            self._future = asyncio.get_running_loop().create_future()
            await self._future
            self._future = None


class Valkey(asyncio.Protocol):
    """Subscriptions and GET on a connection each."""

    def __init__(self) -> None:
        self.readers: dict[bytes, Reader] = {}
        self._parser = libvalkey.Reader(notEnoughData=False)
        self._pending: deque[asyncio.Future[Any]] = deque()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed(data)
        while (reply := self._parser.gets()) is not False:
            if type(reply) is list and reply[0] == b"message":
                if reader := self.readers.get(reply[1]):
                    reader.push(reply[2])
            elif self._pending:
                self._pending.popleft().set_result(reply)

    def call(self, *command: str | bytes) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._pending.append(future)
        self._transport.write(libvalkey.pack_command(command))
        return future


class Pipe:
    def __init__(self, subscriptions: Valkey, calls: Valkey) -> None:
        self._subscriptions = subscriptions
        self._calls = calls
        self._made: dict[int, bytes] = {}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        path: str = scope["path"][1:]
        if path.startswith("bytes/"):
            await self._answer(send, self._bytes(int(path[6:])))
        elif path.startswith("ack/"):
            await self._ack(path[4:], receive, send)
        elif path.startswith("key/"):
            await self._answer(send, await self._calls.call("GET", path[4:]))
        else:
            await self._stream(path.encode(), receive, send)

    def _bytes(self, size: int) -> bytes:
        if size not in self._made:
            self._made[size] = b"x" * (size - 1) + b"y"
        return self._made[size]

    async def _answer(self, send: Send, body: bytes) -> None:
        headers = [*HEADERS, (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _ack(self, name: str, receive: Receive, send: Send) -> None:
        message = await receive()
        body: bytes = message["body"]
        while message["more_body"]:
            message = await receive()
            body += message["body"]
        await self._calls.call("SET", f"acked:{name}", str(json.loads(body)["seq"]))
        await send({"type": "http.response.start", "status": 204, "headers": HEADERS[1:]})
        await send({"type": "http.response.body", "body": b""})

    async def _stream(self, channel: bytes, receive: Receive, send: Send) -> None:
        reader = self._subscriptions.readers[channel] = Reader()
        await self._subscriptions.call("SUBSCRIBE", channel)
        watch = asyncio.create_task(self._watch(receive, reader))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
            while not reader.gone:
                parts, reader.parts = reader.parts, []
                if parts:
                    body = b"".join(parts)
                    await send({"type": "http.response.body", "body": body, "more_body": True})
                await reader.wait()
        finally:
            watch.cancel()
            del self._subscriptions.readers[channel]
            await self._subscriptions.call("UNSUBSCRIBE", channel)

    async def _watch(self, receive: Receive, reader: Reader) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        reader.gone = True
        reader.wake()


async def main(port: int, valkey_port: int) -> None:
    loop = asyncio.get_running_loop()
    _, subscriptions = await loop.create_connection(Valkey, "127.0.0.1", valkey_port)
    _, calls = await loop.create_connection(Valkey, "127.0.0.1", valkey_port)
    config = uvicorn.Config(
        cast("Any", Pipe(subscriptions, calls)),
        port=port,
        http="httptools",
        ws="none",
        lifespan="off",
        interface="asgi3",
        access_log=False,
        log_level="warning",
        backlog=4096,
    )
    with contextlib.suppress(KeyboardInterrupt):
        await uvicorn.Server(config).serve()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2])))
