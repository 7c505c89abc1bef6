"""Leases on a server whose clock is set, or that follows one with another clock (P15)."""

import asyncio
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lore.cli.fleet import free_ports
from lore.protocol.commands import Claim, Renew, Waiting
from lore.protocol.lifecycle import Status
from lore.store import ValkeyStore
from lore.store.base import Claimed, Outcome
from lore.store.keys import partition_of
from lore.store.valkey.client.functions import Functions
from tests.store.backends import LEASE_MS, Backend, Clock, chunk, chunks, eventually
from tests.valkeys import SERVER

# How far the clock is set, and whether the owner lives. Whoever asks what waits a lease later finds
# the request of a dead one; a living one keeps it, or loses it once.
SETS = [
    pytest.param(-30_000, id="30 s back"),
    pytest.param(-3_600_000, id="an hour back"),
    pytest.param(-1, id="1 ms back"),
    pytest.param(0, id="not at all"),
    pytest.param(LEASE_MS // 2, id="half a lease ahead"),
    pytest.param(30_000, id="30 s ahead"),
    pytest.param(3_600_000, id="an hour ahead"),
]


async def waits(backend: Backend) -> bool:
    return bool(await backend.store.do(Waiting(lease_ms=LEASE_MS)))


@pytest.mark.rule("P15.7")
@pytest.mark.parametrize("set_ms", SETS)
async def test_a_dead_owner_is_missed_after_one_lease_however_the_clock_was_set(
    backend: Backend, set_ms: int
) -> None:
    claimed = await backend.owned()
    await backend.append(claimed, chunk(1))
    backend.clock.now_ms += set_ms
    if set_ms < LEASE_MS:
        assert not await waits(backend)  # somebody looks, as each generator does now and then
        backend.pass_time(LEASE_MS - 1 - max(0, set_ms))
        assert not await waits(backend)
        backend.pass_time(1)
    assert await waits(backend)
    again = await backend.claim(owner="g2")
    assert again.view.epoch > claimed.view.epoch
    assert again.view.next_seq == 2


@pytest.mark.rule("P15.7")
@pytest.mark.parametrize("set_ms", SETS)
async def test_a_living_owner_loses_its_request_at_most_once(backend: Backend, set_ms: int) -> None:
    """Two owners who renew, and claim what seems to be free, for three leases."""
    claimed, owner, hand_overs = await backend.owned(), "g1", 0
    backend.clock.now_ms += set_ms
    for _ in range(12):
        other = "g2" if owner == "g1" else "g1"
        if await waits(backend):
            claimed, owner, hand_overs = await backend.claim(owner=other), other, hand_overs + 1
        lease = (claimed.view.request_id, claimed.view.epoch, claimed.view.log_id)
        (position,) = await backend.store.do(
            Renew(partition_of("a"), owner, leases=[lease], lease_ms=LEASE_MS)
        )
        assert position.outcome is Outcome.OK
        backend.pass_time(LEASE_MS // 4)
    assert hand_overs <= 1
    assert (await backend.finish(claimed, 1)).status is Status.DONE


async def test_a_longer_lease_than_others_have_is_left_as_it_is(backend: Backend) -> None:
    await backend.open("a")
    long_ms = 4 * LEASE_MS
    assert await backend.store.do(Claim(partition_of("a"), "g1", lease_ms=long_ms))
    backend.pass_time(long_ms - 1)
    assert not await waits(backend)
    backend.pass_time(1)
    assert await waits(backend)


LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)


class Faked:
    """A server whose clock is set from outside."""

    def __init__(self, folder: Path) -> None:
        (self.port,) = free_ports(1)
        self._clock = folder / f"clock-{self.port}"
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self.set(0)
        env = os.environ | {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(self._clock),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        argv = ["--port", str(self.port), "--save", "", "--dir", str(self._folder)]
        argv += ["--repl-diskless-sync-delay", "0"]
        self._process = await asyncio.create_subprocess_exec(
            SERVER, *argv, env=env, stdout=asyncio.subprocess.DEVNULL
        )

    def set(self, ahead_s: float) -> None:
        self._clock.write_text(f"{ahead_s:+}")

    async def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            await process.wait()


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


async def connected(url: str) -> ValkeyStore:
    store = ValkeyStore(url)
    async with asyncio.timeout(20):
        while True:
            try:
                await store.connect()
            except Exception:  # noqa: BLE001 - it is still starting
                await asyncio.sleep(0.02)
            else:
                return store


async def linked(functions: Functions) -> bool | None:
    return "master_link_status:up" in await functions.call("INFO", "replication") or None


async def until_claimed(backend: Backend, lease_ms: int) -> Claimed:
    """As a generator looks for what waits."""
    async with asyncio.timeout(20):
        while True:
            for _, partition in await backend.store.do(Waiting(lease_ms=lease_ms)):
                claimed = await backend.store.do(Claim(partition, "g2", lease_ms=lease_ms))
                if claimed is not None:
                    return claimed
            await asyncio.sleep(0.05)


@pytest.mark.rule("P15.7")
@pytest.mark.skipif(LIBRARY is None, reason="Debian's package faketime is not installed")
@pytest.mark.parametrize("set_s", [-60, -30, 30])
@pytest.mark.parametrize("is_replaced", [False, True])
async def test_a_real_server_whose_clock_is_set(
    folder: Path, set_s: int, is_replaced: bool
) -> None:
    """Or a new primary with such a clock. Bounded by a third of what its clock was set by."""
    lease_ms = 1000
    first = Faked(folder)
    await first.start()
    second = Faked(folder)
    store = await connected(f"valkey://127.0.0.1:{first.port}")
    try:
        backend: Any = Backend(store, Clock(), expire=lambda now_ms: None)
        await backend.open("a")
        claimed = await store.do(Claim(partition_of("a"), "g1", lease_ms=lease_ms))
        assert claimed is not None
        await backend.append(claimed, *chunks(1, 2), lease_ms=lease_ms)
        if is_replaced:
            await second.start()
            replica = await connected(f"valkey://127.0.0.1:{second.port}")
            functions = replica._functions[0]
            await functions.call("REPLICAOF", "127.0.0.1", first.port)
            await eventually(lambda: linked(functions))
            await store.close()
            await first.stop()
            second.set(set_s)
            await functions.call("REPLICAOF", "NO", "ONE")
            await replica.close()
            store = await connected(f"valkey://127.0.0.1:{second.port}")
            backend = Backend(store, Clock(), expire=lambda now_ms: None)
        else:
            first.set(set_s)
        async with asyncio.timeout(abs(set_s) / 3):
            again = await until_claimed(backend, lease_ms)
        assert again.view.epoch > claimed.view.epoch
        assert again.view.next_seq == 3
        assert (await backend.append(again, chunk(3), lease_ms=lease_ms)).outcome is Outcome.OK
    finally:
        await store.close()
        await first.stop()
        await second.stop()
