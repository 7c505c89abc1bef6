"""The chart on a real cluster, in the order in which it is used: installed, asked, upgraded and
killed under readers who compare every character, and scaled.

``make test-cluster`` with KUBECONFIG set. Each test leaves a release that is complete.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from lore_client import Reader, Text
from tests.cluster import metrics_stub
from tests.cluster.killer import kill
from tests.cluster.kube import Object, until
from tests.cluster.load import Load
from tests.cluster.release import Release, merged
from tests.faults.readers import Question

KINDS = ("edge", "generator", "operator", "valkey")
STALL_S = 11
QUEUE_METRIC = "lore_queue_oldest_seconds"


def test_helm_test_asks_cuts_resumes_and_compares(release: Release) -> None:
    said = release.test()
    print(said)
    assert "all three readers agree" in said


async def test_a_question_is_answered_through_the_service(release: Release) -> None:
    question = Question.draw(random.Random(1), 1)
    async with Reader([release.url], api_key=release.api_key) as reader:
        asked = await reader.create(messages=question.messages, seed=question.seed)
        assert await text_of(reader.stream(asked.request_id)) == question.answer


@pytest.mark.parametrize("kinds", [KINDS[:3], KINDS], ids=["services", "Valkey too"])
async def test_an_upgrade_under_readers_costs_none_a_character(
    release: Release, kinds: Sequence[str]
) -> None:
    """P1, P2. Every pod of these kinds is another one afterwards."""
    another = {"podAnnotations": {"example.org/note": f"{len(kinds)} kinds"}}
    values: dict[str, Any] = dict.fromkeys(kinds, another)
    if "valkey" in values:
        values["valkey"] = {"bundled": another}
    async with leases_for(release, kinds) as leases:
        before = {kind: uids(release, kind) for kind in kinds}
        async with Load(release) as load:
            await asyncio.to_thread(release.upgrade, **merged(values, leases))
        after = {kind: uids(release, kind) for kind in kinds}
    load.report(f"upgrade of {', '.join(kinds)}")
    assert load.violations == []
    assert all(before[kind].isdisjoint(after[kind]) for kind in kinds)


async def test_an_upgrade_changes_the_policy_in_place(release: Release) -> None:
    """It is never absent, also in the first upgrade after an install whose hook made it."""

    def policy() -> Object:
        (found,) = release.namespace.get("streampolicies")["items"]
        return found

    before = policy()["metadata"]["uid"]
    for seconds in (700, 800):
        stall = {"policy": {"stall": {"afterSeconds": seconds}}}
        await asyncio.to_thread(release.upgrade, operator=stall)
        after = policy()
        assert after["spec"]["stall"]["afterSeconds"] == seconds
        assert after["metadata"]["uid"] == before


@pytest.mark.parametrize("kind", KINDS)
async def test_a_killed_container_costs_no_reader_a_character(release: Release, kind: str) -> None:
    """P1, P2, P15. A generator's requests go on by the operator's doing: their leases last
    longer than their readers wait."""
    async with leases_for(release, [kind]), Load(release) as load:
        before = restarts(release, kind)
        victim = await pick(release, kind)
        await kill(release.namespace, victim)
        await until(lambda: restarts(release, kind) > before, f"a restart of the {kind}")
        await asyncio.to_thread(release.settled)
    load.report(f"{kind}, kill -9")
    assert load.violations == []


@pytest.mark.parametrize("kind", KINDS)
async def test_a_deleted_pod_costs_no_reader_a_character(release: Release, kind: str) -> None:
    """P1, P2, P15."""
    async with leases_for(release, [kind]), Load(release) as load:
        victim = await pick(release, kind)
        name = victim["metadata"]["name"]
        await asyncio.to_thread(release.namespace, "delete", "pod", name, timeout_s=120)
        await asyncio.to_thread(release.settled)
    load.report(f"{kind}, deleted")
    assert load.violations == []


@pytest.mark.parametrize("kind", ["edge", "generator"])
async def test_scaling_up_and_down_costs_no_reader_a_character(release: Release, kind: str) -> None:
    """P1, P2."""
    async with Load(release) as load:
        for pods in (3, 1, 2):
            await asyncio.to_thread(release.scale, kind, pods)
    load.report(f"{kind} scaled to 3, 1 and 2")
    assert load.violations == []


async def test_a_stalled_window_is_reaped_and_revived_by_its_reader(release: Release) -> None:
    """P16."""
    stall = {"policy": {"stall": {"afterSeconds": STALL_S}}}
    settings = {"settings": {"leaseS": STALL_S - 1}}
    await asyncio.to_thread(release.upgrade, generator=settings, operator=stall)
    question = Question.draw(random.Random(2), 2)
    async with Reader([release.url], api_key=release.api_key) as reader:
        asked = await reader.create(messages=question.messages, seed=question.seed, window=8)
        request_id = asked.request_id
        silent = reader.stream(request_id, acks=False)
        text = ""
        async for event in silent:
            text += event.text if isinstance(event, Text) else ""
            if getattr(event, "status", "") == "reaped":
                break
        position, log_id = silent.position, silent.log_id
        await silent.aclose()
        assert question.answer.startswith(text)
        assert text != question.answer
        again = reader.stream(request_id, after=position, log_id=log_id, revive=True)
        text += await text_of(again)
    assert text == question.answer
    told = release.namespace.get("events", "--field-selector=reason=Reaped")["items"]
    assert [one["involvedObject"]["kind"] for one in told] == ["StreamPolicy"]
    print(told[0]["message"])


async def test_generators_follow_an_external_metric(release: Release) -> None:
    """The chart's own HorizontalPodAutoscaler, with a stub in the place of prometheus-adapter."""
    if metrics_stub.is_taken():
        pytest.skip("another adapter serves external.metrics.k8s.io")
    edge = {"enabled": False}
    scaling = {"type": "hpa", "edge": edge, "generator": {"minReplicas": 2, "maxReplicas": 4}}
    await asyncio.to_thread(release.upgrade)
    before = uids(release, "generator")
    with metrics_stub.serving(release, metrics_stub.EXTERNAL) as stub:
        stub.set({QUEUE_METRIC: 0})
        await asyncio.to_thread(release.upgrade, scaling=scaling)
        assert uids(release, "generator") == before, "handing over ended pods"
        async with Load(release) as load:
            stub.set({QUEUE_METRIC: 60})
            await until(lambda: len(release.ready("generator")) == 4, "4 generators")
        load.report("generators scaled to 4 by a HorizontalPodAutoscaler")
        assert load.violations == []


@asynccontextmanager
async def leases_for(release: Release, kinds: Sequence[str]) -> AsyncIterator[dict[str, Any]]:
    """Leases shorter than readers wait, where Valkey ends: a claim whose answer was lost with it
    is nobody's until its lease ends. Yields the values that say so."""
    if "valkey" not in kinds:
        yield {}
        return
    leases = {"generator": {"settings": {"leaseS": 10}}}
    await asyncio.to_thread(release.upgrade, **leases)
    try:
        yield leases
    finally:
        await asyncio.to_thread(release.upgrade)


async def text_of(stream: Any) -> str:
    return "".join([event.text async for event in stream if isinstance(event, Text)])


async def pick(release: Release, kind: str) -> Object:
    """A pod that has something to do."""
    if kind != "generator":
        return release.pods(kind)[0]
    await until(lambda: release.busiest() is not None, "a generator's deletion cost")
    busiest = release.busiest()
    assert busiest is not None
    return busiest


def uids(release: Release, kind: str) -> set[str]:
    return {pod["metadata"]["uid"] for pod in release.pods(kind)}


def restarts(release: Release, kind: str) -> int:
    pods = release.pods(kind)
    statuses = [one for pod in pods for one in pod["status"].get("containerStatuses", ())]
    return sum(one["restartCount"] for one in statuses)
