"""Defaults on a cluster that gives no volume: what is said, who waits, and the way on."""

import asyncio
import random

import pytest

from lore_client import Reader
from tests.cluster.another import another
from tests.cluster.kube import Namespace, Object, until
from tests.cluster.release import WORKLOADS, Release
from tests.cluster.test_release import restarts, text_of
from tests.cluster.volumes import DEFAULT
from tests.faults.readers import Question

THEY_WAIT = ("edge", "generator")
PATIENCE_S = 90
"""Longer than their liveness probes let anything pass."""


def is_claimless(release: Release) -> bool:
    """Valkey's pod is Pending for want of a volume, and the cluster says so."""
    claims = release.namespace.get("persistentvolumeclaims")["items"]
    told = release.namespace.get("events", "--field-selector=reason=FailedBinding")["items"]
    return (
        [one["status"]["phase"] for one in claims] == ["Pending"]
        and any("no storage class is set" in one["message"] for one in told)
        and [pod["status"]["phase"] for pod in release.pods("valkey")] == ["Pending"]
    )


def says_that_it_waits(release: Release, component: str) -> bool:
    log = release.namespace("logs", release.workload(component))
    return "waiting for the store" in log


def is_told_by_the_operator(release: Release) -> bool:
    """It is there for just that, and ready."""
    (policy,) = release.namespace.get("streampolicies")["items"]
    conditions = policy.get("status", {}).get("conditions", ())
    told = {one["type"]: one["status"] for one in conditions}
    return told.get("StoreReachable") == "False" and bool(release.ready("operator"))


def is_running(release: Release) -> bool:
    pods = [pod for component in (*THEY_WAIT, "operator") for pod in release.pods(component)]
    return bool(pods) and all(pod["status"]["phase"] == "Running" for pod in pods)


def without_a_restart(release: Release) -> bool:
    return not any(restarts(release, component) for component in WORKLOADS)


@pytest.mark.usefixtures("release")
async def test_defaults_without_a_storage_class_wait_and_say_so_and_do_without_when_told(
    nodes: list[Object],
) -> None:
    classes = Namespace("default").get("storageclasses")["items"]
    if any(one["metadata"].get("annotations", {}).get(DEFAULT) == "true" for one in classes):
        pytest.skip("the cluster has a default StorageClass")
    with another("lore-empty", nodes, with_volume=False) as release:
        await asyncio.to_thread(release.install, "hookOnly")
        notes = release.notes()
        assert "default\nStorageClass" in notes
        assert "valkey.bundled.persistence.enabled=false" in notes
        await until(lambda: is_claimless(release), "Valkey's pod without a volume")
        await until(lambda: is_running(release), "all others")
        for component in THEY_WAIT:
            await until(
                lambda component=component: says_that_it_waits(release, component),
                f"the {component}'s word of what it waits for",
            )
        await until(lambda: is_told_by_the_operator(release), "the operator's word of it")
        await asyncio.sleep(PATIENCE_S)  # for what must not happen there is no event
        assert without_a_restart(release)
        assert not any(release.ready(component) for component in (*THEY_WAIT, "valkey"))

        await asyncio.to_thread(release.uninstall)
        in_memory = {"bundled": {"persistence": {"enabled": False}}}
        await asyncio.to_thread(release.install, valkey=in_memory)
        assert without_a_restart(release)
        question = Question.draw(random.Random(4), 4)
        async with Reader([release.url], api_key=release.api_key) as reader:
            asked = await reader.create(messages=question.messages, seed=question.seed)
            assert await text_of(reader.stream(asked.request_id)) == question.answer
