"""Generators whose engines are servers that die: what readers get of it (P15)."""

import asyncio

import pytest

from lore.protocol.claims import FAILS
from lore.protocol.lifecycle import Status
from lore.store import MemoryStore
from lore_generator.engines.options import RemoteOptions
from lore_generator.engines.remote.engine import RemoteEngine
from lore_generator.service import Service
from lore_generator.settings import GeneratorSettings
from tests.engines.running import ask
from tests.engines.stub import EOS, FIRST, Stub
from tests.services.generator_harness import WAIT_S, Generator, Reader, reader_of

WHOLE = [*range(FIRST, FIRST + 40), EOS]


def engine(*stubs: Stub) -> RemoteEngine:
    urls = tuple(stub.url for stub in stubs)
    return RemoteEngine(RemoteOptions("llamacpp", urls, answer_s=2.0, step_s=1.0))


async def test_a_server_that_is_away_is_waited_for_and_no_reason_to_start_again() -> None:
    """Else Kubernetes would end the generator once ``startupSeconds`` are over, again and again."""
    with Stub("llamacpp") as stub:
        stub.kill()
        settings = GeneratorSettings(generator_id="g1", engine="llamacpp", engine_url=(stub.url,))
        service = Service(settings, engine(stub), MemoryStore())
        assert service.started() is None
        stop = asyncio.Event()
        async with asyncio.timeout(WAIT_S), asyncio.TaskGroup() as tasks:
            tasks.create_task(service.run(stop))
            await until_unready(service, "nobody answers there")
            assert service.started() is None
            await asyncio.to_thread(stub.start)
            while service.ready():  # noqa: ASYNC110 - it is asked, and tells nobody
                await asyncio.sleep(0.01)
            stop.set()


async def until_unready(service: Service, why: str) -> None:
    """It is asked, and tells nobody."""
    async with asyncio.timeout(WAIT_S):
        while why not in (service.ready() or ""):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def ids_of(reader: Reader) -> list[int]:
    log = await reader.store.log(reader.request_id)
    return [token for chunk in log for token in chunk.token_ids]


@pytest.mark.rule("P15.18")
async def test_p15_a_request_that_three_engines_fail_on_fails_with_a_reason() -> None:
    store = MemoryStore()
    with Stub("llamacpp") as stub:
        async with Generator(store, engine=engine(stub)):
            await asyncio.to_thread(stub.until, lambda: bool(stub.bodies))  # it was tried
            stub.broken = ["500"] * 10
            reader = await reader_of(store, "r1", ask(max_tokens=200))
            view = await reader.read_to_end()
    assert (view.status, view.error) == (Status.FAILED, FAILS)
    assert stub.broken == ["500"] * 7


async def test_p15_what_waits_for_an_engine_is_queued_and_answered_once_it_is_back() -> None:
    store = MemoryStore()
    with Stub("llamacpp") as stub:
        stub.pause_s = 0.02
        async with Generator(store, engine=engine(stub)) as generator:
            reader = await reader_of(store, "r1", ask(max_tokens=200))
            await reader.until(lambda view: view.generated_tokens > 5)
            await asyncio.to_thread(stub.kill)
            await until_unready(generator.service, "nobody answers there")
            await reader.until_status(Status.QUEUED)
            await asyncio.to_thread(stub.start)
            assert (await reader.read_to_end()).status is Status.DONE
    assert await ids_of(reader) == WHOLE
