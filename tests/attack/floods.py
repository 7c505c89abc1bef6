# ruff: noqa: E501 (one line for each case)
"""Endless messages of strangers: one line for each kind. None of them comes with a key."""

import asyncio
import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from tests.attack.raw import Ended, peer, post, request

MIB = 2**20
BLOCK = 65_536
STALL_S = 2.0  # the edge reads no more, as it may


@dataclass(frozen=True)
class Flood:
    name: str
    begins: bytes
    goes_on: bytes
    """Again and again."""
    status: int | None
    """What it is told; None where it sends right calls and does not read the answers."""
    or_status: int | None = None
    """When more has come before the answer."""

    def blocks(self, size: int) -> Iterator[bytes]:
        yield self.begins
        block = self.goes_on * max(1, BLOCK // len(self.goes_on))
        for _ in itertools.repeat(None, max(1, size // len(block))):
            yield block


_HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n"
_CHUNKED = post("Transfer-Encoding: chunked", body=b'11\r\n{"question": "a"}\r\n')

FLOODS = [
    Flood("fields", _HEAD, b"a:b\r\n", 431),
    Flood("fields of a kilobyte", _HEAD, b"a:" + b"b" * 1000 + b"\r\n", 431),
    Flood("one field's value", _HEAD + b"a:", b"b", 431),
    Flood("one field's name", _HEAD, b"a", 431),
    Flood("white space before a value", _HEAD + b"a:", b" ", 431),
    Flood("the address", b"GET /", b"a", 414),
    Flood("a query", b"GET /?", b"a&", 414),
    Flood("the method", b"", b"A", 501),
    Flood("empty lines", b"", b"\r\n", 431),
    Flood("zeros in a length", request("POST", "/", "Content-Length: ")[:-4], b"0", 431),
    Flood("trailers", _CHUNKED + b"0\r\n", b"a:b\r\n", 431),
    Flood("one trailer", _CHUNKED + b"0\r\na:", b"b", 400),
    Flood("an extension", _CHUNKED + b"1;a=", b"b", 400),
    Flood("many extensions", _CHUNKED, b"1;" + b"a" * 1000 + b"\r\n \r\n", 400),
    Flood("zeros in a chunk's size", _CHUNKED, b"0", 400),
    Flood("a body", post("Transfer-Encoding: chunked", body=b""), b"400\r\n%b\r\n" % (b" " * 1024), 413),
    Flood("a body that is told", post("Content-Length: 99999999999", body=b""), b" ", 413),
    Flood("a body after an early answer", request("POST", "/v1/streams", "Transfer-Encoding: chunked"), b"400\r\n%b\r\n" % (b" " * 1024), 415),
    Flood("trailers after an early answer", request("POST", "/v1/streams", "Transfer-Encoding: chunked", body=b"0\r\n"), b"a:b\r\n", 415, 431),
    Flood("calls", b"", request(), None),
    Flood("chunked calls", b"", request("GET", "/v1/models", "Transfer-Encoding: chunked", body=b"0\r\n\r\n"), None),
    Flood("no HTTP", b"\x16\x03", b"\x00", 400),
]  # fmt: skip


async def send(flood: Flood, port: int, size: int) -> int | None:
    """Send so much, or until the edge takes no more; returns the status that it answers."""
    async with peer(port) as one:

        async def answered() -> int | None:
            with contextlib.suppress(Ended, TimeoutError):
                return (await one.head()).status
            return None

        answer = asyncio.create_task(answered()) if flood.status is not None else None
        for block in flood.blocks(size):
            one.writer.write(block)
            try:
                await asyncio.wait_for(one.writer.drain(), STALL_S)
            except (ConnectionError, TimeoutError):
                break
        return await answer if answer is not None else None
