"""What a release's pods measure, handed to autoscalers without a Prometheus between them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from prometheus_client.parser import text_string_to_metric_families

from tests.cluster.kube import Failed, Object
from tests.cluster.metrics_stub import Stub
from tests.cluster.release import Release

QUEUE = "lore_queue_oldest_seconds"
SLOTS_USED = "lore_generator_slots_used_ratio"
KV_USED = "lore_generator_kv_used_ratio"
HEALTH_PORT = 9090
EVERY_S = 1.0


def measured(release: Release, pod: Object) -> dict[str, float]:
    """What it says at /metrics, as ``name`` or ``name state``."""
    meta = pod["metadata"]
    path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}:{HEALTH_PORT}/proxy/metrics"
    families = text_string_to_metric_families(release.namespace("get", "--raw", path))
    samples = [sample for family in families for sample in family.samples]
    return {f"{one.name} {one.labels.get('state', '')}".strip(): one.value for one in samples}


def of_a_generator(told: dict[str, float]) -> dict[str, float]:
    """As the rules in k8s/prometheus-adapter make them."""
    slots = told["lore_generator_slots"]
    used = told["lore_generator_requests decoding"] / slots if slots else 0.0
    return {SLOTS_USED: used, KV_USED: told[KV_USED]}


def hand_over(release: Release, stub: Stub) -> None:
    generators = {
        pod["metadata"]["name"]: of_a_generator(measured(release, pod))
        for pod in release.ready("generator")
    }
    (operator,) = release.ready("operator")
    of_pods = {
        metric: {name: values[metric] for name, values in generators.items()}
        for metric in (SLOTS_USED, KV_USED)
    }
    stub.set({QUEUE: measured(release, operator)[QUEUE]}, of_pods)


@asynccontextmanager
async def relayed(release: Release, stub: Stub) -> AsyncIterator[None]:
    async def go_on() -> None:
        while True:
            with suppress(Failed):  # a pod that has just gone
                await asyncio.to_thread(hand_over, release, stub)
            await asyncio.sleep(EVERY_S)  # a metric tells nobody that it has changed

    await asyncio.to_thread(hand_over, release, stub)
    task = asyncio.create_task(go_on())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
