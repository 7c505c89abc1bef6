"""The study's readers, on bytes as an edge sends them."""

import asyncio
import json
from typing import Any, cast

import pytest

from loadtest.harness.ackers import Posts
from loadtest.pace.readers import ReadingTap

HEAD = b"HTTP/1.1 200 OK\r\nx-request-id: r1\r\ntransfer-encoding: chunked\r\n\r\n"
STATE = b'retry: 1000\nevent: state\ndata: {"status": "generating"}\n\n'
END = b'event: end\ndata: {"status": "done"}\n\n'
LIMIT_S = 10.0


def chunk(seq: int, tokens: int) -> bytes:
    return f'id: {seq}\ndata: {{"seq": {seq}, "text": "a {{b}}", "tokens": {tokens}}}\n\n'.encode()


class Wire:
    """Takes what a connection writes."""

    def __init__(self) -> None:
        self.acks: asyncio.Queue[int] = asyncio.Queue()

    def write(self, data: bytes) -> None:
        head, _, body = data.partition(b"\r\n\r\n")
        assert head.startswith(b"POST /v1/streams/r1/ack ")
        self.acks.put_nowait(json.loads(body)["seq"])

    def is_closing(self) -> bool:
        return False


def reader(speed: float) -> tuple[ReadingTap, Wire]:
    wire = Wire()
    posts = Posts()
    posts.transport = cast("Any", wire)
    return ReadingTap(b"", posts, speed), wire


@pytest.mark.parametrize("size", [1, 7, 10_000], ids=["byte-by-byte", "in-pieces", "at-once"])
async def test_each_token_counts_once_however_its_bytes_come(size: int) -> None:
    tap, _ = reader(1.0)
    data = HEAD + STATE + chunk(1, 2) + chunk(2, 3) + chunk(1, 2) + chunk(3, 8) + END
    for start in range(0, len(data), size):
        tap.data_received(data[start : start + size])
    assert len(tap.arrivals_s) == 8
    assert tap.arrivals_s == sorted(tap.arrivals_s)
    assert tap.again == 1
    assert tap.ended.done()


async def test_a_reader_acknowledges_what_it_has_read_and_everything_at_the_end() -> None:
    tap, wire = reader(4.0)
    tap.data_received(HEAD + chunk(1, 1) + chunk(2, 2) + chunk(3, 1000))
    async with asyncio.timeout(LIMIT_S):
        acked = await wire.acks.get()
        while acked < 2:
            acked = await wire.acks.get()
    assert acked == 2
    tap.data_received(chunk(4, 1001) + END)
    assert wire.acks.get_nowait() == 4


async def test_a_gap_is_an_error() -> None:
    tap, _ = reader(1.0)
    with pytest.raises(RuntimeError, match="chunk 3 after 1"):
        tap.data_received(HEAD + chunk(1, 1) + chunk(3, 3))
