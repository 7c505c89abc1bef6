"""An edge in a process of its own, with a store in its memory."""

import asyncio
import contextlib
import functools
import json
import os
import resource
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.services.edge_harness import WAIT_S, Response, request

PROCESS_S = 60.0  # a new process may be slow to start on a busy machine


@dataclass
class EdgeProcess:
    """Stands in for a RunningEdge where only its port matters."""

    process: asyncio.subprocess.Process
    port: int
    health_port: int
    responses: list[Response]

    def signal(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    async def exit_status(self) -> int:
        return await asyncio.wait_for(self.process.wait(), PROCESS_S)

    async def health(self, path: str) -> tuple[int, str]:
        return await asyncio.to_thread(get, f"http://127.0.0.1:{self.health_port}{path}")

    async def new_stream(self) -> Response:
        headers = {"content-type": "application/json", "accept": "text/event-stream"}
        response = await request(self, "POST", "/v1/streams", headers, b'{"question": "a"}')
        await response.event()
        return response


def get(url: str) -> tuple[int, str]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=WAIT_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


async def start(*, files: int = 0, **settings: Any) -> asyncio.subprocess.Process:
    quick = {"auth": "off", "valkey_url": "memory://", "port": 0, "drain_spread_s": 0.1}
    chosen = quick | settings
    environment = {f"LORE_{name.upper()}": str(value) for name, value in chosen.items()}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "lore_edge",
        env={"PATH": os.environ["PATH"]} | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        preexec_fn=functools.partial(_limit_files, files) if files else None,
    )


def _limit_files(count: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))


@contextlib.asynccontextmanager
async def edge_process(**settings: Any) -> AsyncIterator[EdgeProcess]:
    process = await start(**settings)
    responses: list[Response] = []
    try:
        health_port = (await said(process, "health"))["port"]
        port = (await said(process, "listening"))["port"]
        yield EdgeProcess(process, port, health_port, responses)
    finally:
        for response in responses:
            response.close()
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def said(process: asyncio.subprocess.Process, event: str) -> dict[str, Any]:
    """The first line of the log that tells of this event."""
    assert process.stderr is not None
    async with asyncio.timeout(PROCESS_S):
        while line := await process.stderr.readline():
            entry = json.loads(line)
            if entry["event"] == event:
                return entry
    pytest.fail(f"the edge ended without saying {event!r}")
