"""Servers that answer a GET as none should: a table to which a reader adds a line.

What asks must come to its end by its deadline, hold no more than its bound, and say so.
"""

import asyncio
import gzip
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]
DRIP_S = 0.02
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
_MIB = b" " * 1_048_576


@dataclass
class BadServer:
    url: str = ""
    calls: int = 0


def sending(*parts: bytes, pause_s: float = 0.0, again: bytes = b"") -> Answer:
    """These parts, then ``again`` for ever, if it is anything."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        for part in itertools.chain(parts, itertools.repeat(again) if again else ()):
            writer.write(part)
            await writer.drain()
            if pause_s:
                await asyncio.sleep(pause_s)

    return answer


async def _silent(_: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def _reset(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


SLOW: dict[str, Answer] = {
    "silent": _silent,
    "a status line in drips": sending(b"HTTP/1.1 200 O", pause_s=DRIP_S, again=b"K"),
    "a head in drips": sending(OK, pause_s=DRIP_S, again=b"a: b\r\n"),
    "a field in drips": sending(OK + b"a: ", pause_s=DRIP_S, again=b"b"),
    "interim answers for ever": sending(
        pause_s=DRIP_S, again=b"HTTP/1.1 103 Early Hints\r\na: b\r\n\r\n"
    ),
    "a body in drips": sending(OK + b"Content-Length: 9999\r\n\r\n", pause_s=DRIP_S, again=b"{"),
    "a body in drips, to the close": sending(OK + b"\r\n", pause_s=DRIP_S, again=b" "),
    "chunks in drips": sending(
        OK + b"Transfer-Encoding: chunked\r\n\r\n", pause_s=DRIP_S, again=b"1\r\n \r\n"
    ),
    "a chunk's size in drips": sending(
        OK + b"Transfer-Encoding: chunked\r\n\r\n1;", pause_s=DRIP_S, again=b"x"
    ),
    "trailers in drips": sending(
        OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", pause_s=DRIP_S, again=b"a: b\r\n"
    ),
}
"""Each would go on for ever."""

WRONG: dict[str, Answer] = {
    "closed at once": sending(),
    "reset": _reset,
    "no HTTP": sending(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "HTTP/2": sending(b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0d"),
    "an empty body": sending(OK + b"Content-Length: 0\r\n\r\n"),
    "an unfinished body": sending(OK + b"Content-Length: 99\r\n\r\n{}"),
    "a chunk of no size": sending(OK + b"Transfer-Encoding: chunked\r\n\r\nx\r\n"),
    "an endless field": sending(OK + b"a: ", again=_MIB),
    "endless fields": sending(OK, again=b"a: b\r\n" * 10_000),
    "an endless body": sending(OK + b"\r\n", again=_MIB),
    "an endless chunk": sending(
        OK + b"Transfer-Encoding: chunked\r\n\r\nfffffffff\r\n", again=_MIB
    ),
    "a body of a terabyte": sending(OK + b"Content-Length: 1000000000000\r\n\r\n", again=_MIB),
    "a body that unpacks to much": sending(
        OK + b"Content-Encoding: gzip\r\nConnection: close\r\n\r\n" + gzip.compress(_MIB * 64)
    ),
    "a page": sending(OK + b"Connection: close\r\n\r\n<!doctype html><title>Sign in</title>"),
    "no UTF-8": sending(OK + b"Connection: close\r\n\r\n\xff\xfe"),
    "half of its JSON": sending(OK + b'Connection: close\r\n\r\n{"keys": [{'),
    "nested JSON": sending(OK + b"Connection: close\r\n\r\n" + b"[" * 200_000),
    "a number of many digits": sending(OK + b"Connection: close\r\n\r\n" + b"9" * 10_000),
    "null": sending(OK + b"Connection: close\r\n\r\nnull"),
    "a list": sending(OK + b"Connection: close\r\n\r\n[[]]"),
    "no content": sending(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "a part": sending(b"HTTP/1.1 206 Partial Content\r\nContent-Length: 2\r\n\r\n{}"),
    "elsewhere, here": sending(
        b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    ),
    "elsewhere, in a file": sending(
        b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n"
    ),
    "elsewhere, nowhere": sending(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n"),
    "elsewhere, at no address": sending(
        b"HTTP/1.1 302 Found\r\nLocation: http://[\r\nContent-Length: 0\r\n\r\n"
    ),
    "denied": sending(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\n{}"),
    "too many": sending(b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 2\r\n\r\n{}"),
    "broken": sending(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\n\r\n{}"),
    "a broken page in drips": sending(
        b"HTTP/1.1 500 Internal Server Error\r\n\r\n", pause_s=DRIP_S, again=b" "
    ),
    "a status that is none": sending(b"HTTP/1.1 999 What\r\nContent-Length: 2\r\n\r\n{}"),
    "a version that is none": sending(b"HTTP/7.0 200 OK\r\nContent-Length: 2\r\n\r\n{}"),
}


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[BadServer]:
    """Each call is answered like this; a peer that leaves ends it."""
    tasks: list[asyncio.Task[None]] = []
    writers: list[asyncio.StreamWriter] = []
    server = BadServer()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.CancelledError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            answering = asyncio.ensure_future(answer(writer))
            leaving = asyncio.create_task(reader.read())
            try:
                await asyncio.wait([answering, leaving], return_when=asyncio.FIRST_COMPLETED)
                if answering.done():
                    answering.result()
            finally:
                answering.cancel()
                leaving.cancel()
                writer.close()

    def come(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.calls += 1
        writers.append(writer)
        tasks.append(asyncio.create_task(serve(reader, writer)))

    listening = await asyncio.start_server(come, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/"
    try:
        yield server
    finally:
        listening.close()
        await asyncio.sleep(0)  # who was just accepted comes
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for writer in writers:
            writer.transport.abort()
            with suppress(ConnectionError):
                await writer.wait_closed()
