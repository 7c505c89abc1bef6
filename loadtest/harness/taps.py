"""Readers as thin as they can be: bytes and when they came. What they are is looked at later."""

import asyncio
import itertools
import json
import re
import resource
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

EVENT = re.compile(rb"\nid: ([0-9]+)\n|^id: ([0-9]+)\n")
JOINED_AT_ONCE = 100
READY_S = 60.0


class Tap(asyncio.Protocol):
    """One connection, one request."""

    transport: asyncio.Transport

    def __init__(self, request: bytes) -> None:
        self.got: list[tuple[float, bytes]] = []
        self.sent_s = 0.0
        self.closed = False
        self._request = request

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.sent_s = time.perf_counter()
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self.got.append((time.perf_counter(), data))

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.closed = True

    def body(self) -> bytes:
        return b"".join(data for _, data in self.got)

    def header(self, name: bytes) -> str:
        found = re.search(rb"\r\n" + name + rb": ([^\r]*)\r\n", self.body()[:4096])
        return found[1].decode() if found else ""

    def chunks(self) -> Iterator[tuple[int, float]]:
        """(seq, when it was here) of each event that is a chunk."""
        ends = list(itertools.accumulate(len(data) for _, data in self.got))
        for match in EVENT.finditer(self.body()):
            at = bisect_left(ends, match.end())
            yield int(match[1] or match[2]), self.got[min(at, len(ends) - 1)][0]


async def join(port: int, requests: Sequence[bytes], *, spread_s: float) -> list[Tap]:
    """Connect within about ``spread_s``, evenly."""
    loop = asyncio.get_running_loop()
    taps: list[Tap] = []
    began = loop.time()
    for number, request in enumerate(requests):
        due = began + spread_s * number / len(requests)
        if due > loop.time():
            await asyncio.sleep(due - loop.time())
        taps.append(await open_tap(port, lambda request=request: Tap(request)))
    return taps


async def open_tap(port: int, make: Callable[[], Any]) -> Any:
    _, tap = await asyncio.get_running_loop().create_connection(make, "127.0.0.1", port)
    return tap


async def until_reading(taps: Sequence[Tap], reads: int) -> None:
    """Until everyone has been given something so often. Raises TimeoutError."""
    async with asyncio.timeout(READY_S):
        for tap in taps:
            while len(tap.got) < reads:
                if tap.closed:
                    raise ConnectionError(tap.body()[:500].decode(errors="replace"))
                await asyncio.sleep(0.02)


def leave(taps: Sequence[Tap]) -> None:
    for tap in taps:
        tap.transport.abort()


def get(path: str, *headers: str) -> bytes:
    lines = [f"GET {path} HTTP/1.1", "Host: bench", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def post(path: str, body: dict[str, Any], *headers: str) -> bytes:
    data = json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", "Host: bench", "Content-Type: application/json", *headers]
    return ("\r\n".join([*lines, f"Content-Length: {len(data)}"]) + "\r\n\r\n").encode() + data


def ask(number: int, *, ack: str, max_tokens: int, **parameters: Any) -> bytes:
    """A question whose answer is streamed on the same connection."""
    messages = [{"role": "user", "content": f"What is {number}?"}]
    body = {"messages": messages, "seed": number, "ack": ack, "max_tokens": max_tokens}
    return post("/v1/streams", body | parameters, "Accept: text/event-stream")


def raise_file_limit() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
