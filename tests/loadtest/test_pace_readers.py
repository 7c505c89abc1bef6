"""The study's readers, on bytes as an edge sends them."""

import asyncio
import json

import pytest

from loadtest.pace.readers import Acks, ReadingTap

HEAD = b"HTTP/1.1 200 OK\r\nx-request-id: r1\r\ntransfer-encoding: chunked\r\n\r\n"
STATE = b'retry: 1000\nevent: state\ndata: {"status": "generating"}\n\n'
END = b'event: end\ndata: {"status": "done"}\n\n'
LIMIT_S = 10.0


def chunk(seq: int, tokens: int) -> bytes:
    return f'id: {seq}\ndata: {{"seq": {seq}, "text": "a {{b}}", "tokens": {tokens}}}\n\n'.encode()


def reader(speed: float) -> tuple[ReadingTap, asyncio.Queue[int]]:
    """A reader, and its acks."""
    acks: asyncio.Queue[int] = asyncio.Queue()

    def send(request: bytes) -> None:
        head, _, body = request.partition(b"\r\n\r\n")
        assert head.startswith(b"POST /v1/streams/r1/ack ")
        acks.put_nowait(json.loads(body)["seq"])

    return ReadingTap(b"", send, speed), acks


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
    tap, acks = reader(4.0)
    tap.data_received(HEAD + chunk(1, 1) + chunk(2, 2) + chunk(3, 1000))
    async with asyncio.timeout(LIMIT_S):
        acked = await acks.get()
        while acked < 2:
            acked = await acks.get()
    assert acked == 2
    tap.data_received(chunk(4, 1001) + END)
    assert acks.get_nowait() == 4


async def test_a_chunk_that_comes_again_is_acknowledged_again() -> None:
    tap, acks = reader(100.0)
    tap.data_received(HEAD + chunk(1, 1))
    async with asyncio.timeout(LIMIT_S):
        assert await acks.get() == 1
        tap.data_received(chunk(1, 1))
        assert await acks.get() == 1


async def test_a_gap_is_an_error() -> None:
    tap, _ = reader(1.0)
    with pytest.raises(RuntimeError, match="chunk 3 after 1"):
        tap.data_received(HEAD + chunk(1, 1) + chunk(3, 3))


async def test_acks_find_their_way_after_an_edge_has_closed_an_idle_connection() -> None:
    seen: asyncio.Queue[bytes] = asyncio.Queue()

    async def serve(incoming: asyncio.StreamReader, outgoing: asyncio.StreamWriter) -> None:
        seen.put_nowait(await incoming.read(100))
        outgoing.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    acks = Acks(server.sockets[0].getsockname()[1])
    async with asyncio.timeout(LIMIT_S):
        acks.send(b"first")
        assert await seen.get() == b"first"
        while seen.empty():  # until the end of the connection is here
            acks.send(b"second")
            await asyncio.sleep(0.01)  # a connection does not tell its user that it was closed
        assert await seen.get() == b"second"
        await acks.close()
        server.close()
        await server.wait_closed()
