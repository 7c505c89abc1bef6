"""What befalls the machine that a service runs on: its log's disk is full, nobody reads its log,
it has no descriptors left, strangers flood it. As in ``kinds``, each returns when it is over."""

import asyncio
import contextlib
import random
import resource
import signal

import psutil

from tests.faults.fleet import Fleet, Part

UNREAD = ("bash", "-c", 'exec "$@" 2> >(exit)', "bash")
"""What runs a command so that the reader of its standard error is gone."""
FLOODS = 4
FLOOD_BYTES = 32 << 20
FLOOD_S = 5.0


async def log_full(fleet: Fleet, rng: random.Random) -> None:
    """While there is much to say: the connections to the store are lost."""
    services = [*fleet.edges, *fleet.generators]
    for part in services:
        part.limit_files(part.log.stat().st_size)
    for _ in range(3):
        await fleet.cut_store()
        await asyncio.sleep(rng.uniform(0.3, 1))
    for part in services:
        part.limit_files(resource.RLIM_INFINITY)


async def log_unread(fleet: Fleet, rng: random.Random) -> None:
    edge, generator = rng.choice(fleet.edges), rng.choice(fleet.generators)
    for part in (edge, generator):
        await _begin_anew(part, UNREAD)
    for _ in range(2):
        await fleet.cut_store()
        await asyncio.sleep(rng.uniform(0.3, 1))
    for part in (edge, generator):
        await _begin_anew(part)


async def _begin_anew(part: Part, runner: tuple[str, ...] = ()) -> None:
    await part.die(signal.SIGTERM)
    part.runner = runner
    await part.restart()


async def no_descriptors(fleet: Fleet, rng: random.Random) -> None:
    """An edge and a generator can open nothing more, and lose their connections to the store."""
    parts = [rng.choice(fleet.edges), rng.choice(fleet.generators)]
    for part in parts:
        process = psutil.Process(part.pid)
        _, most = process.rlimit(psutil.RLIMIT_NOFILE)
        process.rlimit(psutil.RLIMIT_NOFILE, (process.num_fds(), most))
    await fleet.cut_store()
    await asyncio.sleep(rng.uniform(0.5, 3))
    for part in parts:
        process = psutil.Process(part.pid)
        _, most = process.rlimit(psutil.RLIMIT_NOFILE)
        process.rlimit(psutil.RLIMIT_NOFILE, (most, most))


async def header_flood(fleet: Fleet, rng: random.Random) -> None:
    """Without a key: lines of a head without an end, until the edge has had enough."""
    url = rng.choice(fleet.readers)
    floods = (_flood(int(url.rpartition(":")[2])) for _ in range(FLOODS))
    await asyncio.gather(*floods)


async def _flood(port: int) -> None:
    lines = b"a:b\r\n" * 4096
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(FLOOD_S):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            with contextlib.closing(writer):
                writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n")
                for _ in range(FLOOD_BYTES // len(lines)):
                    writer.write(lines)
                    await writer.drain()
