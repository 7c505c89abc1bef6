"""What a generator tells of an engine that is driven over HTTP."""

import asyncio
from collections.abc import Callable

import pytest

from lore.protocol.lifecycle import Status
from lore.store import MemoryStore
from lore_generator.engines.options import RemoteOptions
from lore_generator.engines.remote import pool
from lore_generator.engines.remote.engine import RemoteEngine
from tests.engines.stub import Stub
from tests.services.generator_harness import Generator, ask, reader_of
from tests.services.meters import grows, meter, shows

WAIT_S = 30.0
TROUBLES = {
    "failed": "500",
    "silent": "hang",
    "busy": "429",
    "refused": "400",
    "unfit": "404",
}


async def until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not happened():  # noqa: ASYNC110 - a scrape is a look
            await asyncio.sleep(0.02)


def engine(*stubs: Stub) -> RemoteEngine:
    urls = tuple(stub.url for stub in stubs)
    return RemoteEngine(RemoteOptions("llamacpp", urls, answer_s=2.0, step_s=0.5))


@shows("lore_engine_servers")
@shows("lore_engine_waiting")
async def test_the_engines_servers_are_counted():
    with Stub("llamacpp") as one, Stub("llamacpp") as other:
        one.waiting = 3
        async with Generator(MemoryStore(), engine=engine(one, other)):
            await until(lambda: meter("lore_engine_servers", state="up") == 2)
            await until(lambda: meter("lore_engine_waiting") == 3)
            await asyncio.to_thread(other.kill)
            await until(lambda: meter("lore_engine_servers", state="down") == 1)


async def answered(broken: str) -> None:
    with Stub("llamacpp") as stub:
        stub.length = 5
        store = MemoryStore()
        async with Generator(store, engine=engine(stub)):
            await until(lambda: bool(stub.bodies))  # the probe
            stub.broken = [broken] if broken else []
            reader = await reader_of(store, "r1", ask(temperature=0.0))
            view = await reader.read_to_end()
            assert view.status is (Status.FAILED if broken == "400" else Status.DONE)


@grows("lore_engine_calls_total", by=1)
async def test_an_answer_is_one_call():
    await answered("")


def _make(kind: str, broken: str) -> None:
    @grows("lore_engine_troubles_total", kind)
    async def test() -> None:
        await answered(broken)

    globals()[f"test_a_call_that_failed_is_counted_as_{kind}"] = test


for _kind, _broken in TROUBLES.items():
    _make(_kind, _broken)


@grows("lore_engine_troubles_total", "away")
async def test_p15_a_call_that_nobody_takes_is_counted(monkeypatch: pytest.MonkeyPatch):
    with Stub("llamacpp") as stub:
        store = MemoryStore()
        monkeypatch.setattr(pool, "POLL_S", 60.0)  # the call finds out, and not a look
        async with Generator(store, engine=engine(stub)) as generator:
            await until(lambda: generator.service.ready() is None)
            before = meter("lore_engine_troubles_total", kind="away")
            await asyncio.to_thread(stub.kill)
            await reader_of(store, "r1", ask(temperature=0.0))
            await until(lambda: meter("lore_engine_troubles_total", kind="away") > before)
