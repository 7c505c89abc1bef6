"""A proxy that holds responses back, and knows no directive of HTTP."""

import asyncio
import contextlib
import re
import threading
from collections.abc import AsyncIterator, Iterator

UNTIL_THE_END = 2**62
_CONNECTION = re.compile(rb"\r\nconnection:[^\r]*", re.IGNORECASE)


@contextlib.asynccontextmanager
async def holding_back(port: int, size: int) -> AsyncIterator[str]:
    """It keeps the last ``size`` bytes of each response until more comes, or it ends. A request
    has a connection of its own, so that every finished response does."""
    tasks: set[asyncio.Task[None]] = set()
    writers: set[asyncio.StreamWriter] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kept: int) -> None:
        held = b""
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                held += data
                ready = len(held) - kept
                if ready > 0:
                    writer.write(held[:ready])
                    held = held[ready:]
                    await writer.drain()
            writer.write(held)
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
            writers.add(far_writer)
            far_writer.write(_CONNECTION.sub(b"", head)[:-2] + b"Connection: close\r\n\r\n")
            for pumped in (pump(reader, far_writer, 0), pump(far_reader, writer, size)):
                task = asyncio.create_task(pumped)
                tasks.add(task)
                task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in (left := tuple(tasks)):
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        for writer in writers:
            writer.transport.abort()
        for writer in writers:
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


@contextlib.contextmanager
def holding_back_beside(port: int, size: int) -> Iterator[str]:
    """The same on a thread of its own, for tests that wait for a browser."""
    found: list[str] = []
    begun, loop = threading.Event(), asyncio.new_event_loop()
    over = asyncio.Event()

    async def serve() -> None:
        async with holding_back(port, size) as url:
            found.append(url)
            begun.set()
            await over.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        begun.wait()
        yield found[0]
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
        loop.close()
