"""Autoscalers on what a real Prometheus measures: the chart's HorizontalPodAutoscalers with
prometheus-adapter (the rules in k8s/prometheus-adapter), its ScaledObjects with KEDA.

The cluster must bring them; what it has not is skipped. Each test leaves a release that is
complete and has a number of pods of its own.
"""

import asyncio
import json
import random
from collections.abc import Mapping
from typing import Any

import pytest
from helm_python.errors import HelmError

from lore_client import Reader
from tests.cluster import metrics_stub
from tests.cluster.kube import Failed, Object, kubectl, until
from tests.cluster.load import Load
from tests.cluster.relay import relayed
from tests.cluster.release import Release
from tests.cluster.test_release import QUEUE_METRIC, text_of
from tests.faults.readers import Question

TIERS = ("edge", "generator")
FEW, MANY = 2, 3
POD_METRICS = {"pods/lore_generator_slots_used_ratio", "pods/lore_generator_kv_used_ratio"}
PROMETHEUS = ("prometheus-k8s", "prometheus-operated")
SLOTS = 8
"""So few that the readers of a load fill them."""
PODS: dict[str, Any] = {
    "generator": {"settings": {"slots": SLOTS}},
    "edge": {"resources": {"requests": {"cpu": "50m"}}},
}


def api(group: str) -> Object:
    """Who serves a group of metrics; nothing when nobody does."""
    try:
        return json.loads(kubectl("get", "apiservice", f"v1beta1.{group}", "-o", "json"))
    except Failed:
        return {}


def served(group: str) -> set[str]:
    try:
        answer = json.loads(kubectl("get", "--raw", f"/apis/{group}/v1beta1"))
    except Failed:
        return set()
    return {one["name"] for one in answer["resources"]}


def prometheus() -> str:
    """Its address inside the cluster, or nothing."""
    services = json.loads(kubectl("get", "services", "-A", "-o", "json"))["items"]
    for service in services:
        meta = service["metadata"]
        if meta["name"] in PROMETHEUS:
            return f"http://{meta['name']}.{meta['namespace']}.svc:9090"
    return ""


async def need(scaler: str) -> None:
    """Skips, with the reason, where the cluster cannot scale so."""
    external = api("external.metrics.k8s.io").get("spec", {}).get("service", {})
    if scaler == "keda":
        if "keda" not in external.get("name", ""):
            pytest.skip("KEDA does not serve external.metrics.k8s.io")
        if not prometheus():
            pytest.skip(f"there is no Service {' or '.join(PROMETHEUS)}")
        return
    if "adapter" not in external.get("name", ""):
        pytest.skip("prometheus-adapter does not serve external.metrics.k8s.io")

    def rules_answer() -> bool:
        custom, queue = served("custom.metrics.k8s.io"), served("external.metrics.k8s.io")
        return custom >= POD_METRICS and QUEUE_METRIC in queue

    await until(rules_answer, "metrics by the rules in k8s/prometheus-adapter", 60)


def scaling(scaler: str, **generator: Any) -> Mapping[str, Any]:
    bounds = {"minReplicas": FEW, "maxReplicas": MANY, "scaleDownSeconds": 15}
    # Whether edges are too few shows in their CPU, which not every cluster measures.
    edge = bounds | {"enabled": bool(api("metrics.k8s.io"))}
    keda = {"serverAddress": prometheus() or "http://none", "pollingInterval": 5}
    return {"type": scaler, "edge": edge, "generator": bounds | generator, "keda": keda}


def have(release: Release, pods: int, tiers: list[str]) -> bool:
    return all(len(release.ready(tier)) == len(release.pods(tier)) == pods for tier in tiers)


@pytest.mark.parametrize("scaler", ["hpa", "keda"])
async def test_pods_follow_what_prometheus_measures_up_and_down_and_cost_no_reader_a_character(
    release: Release, scaler: str
) -> None:
    """P1, P2"""
    await need(scaler)
    scaled = scaling(scaler)
    tiers = [tier for tier in TIERS if scaled[tier].get("enabled", True)]
    await asyncio.to_thread(release.upgrade, **PODS)
    before = {pod["metadata"]["uid"] for tier in tiers for pod in release.ready(tier)}
    await asyncio.to_thread(release.upgrade, **PODS, scaling=scaled)
    after = {pod["metadata"]["uid"] for tier in tiers for pod in release.ready(tier)}
    assert before <= after, "handing over ended pods"
    async with Load(release) as load:
        await until(lambda: have(release, MANY, tiers), f"{MANY} pods of {tiers}")
    load.report(f"{' and '.join(tiers)} from {FEW} to {MANY} by {scaler}")
    async with Load(release, streams=1) as rest:
        await until(lambda: have(release, FEW, tiers), f"{FEW} pods of {tiers}")
    rest.report(f"and back to {FEW}")
    events = release.namespace.get("events", "--field-selector=reason=SuccessfulRescale")
    for one in events["items"]:
        print(one["involvedObject"]["name"], one["message"])
    await asyncio.to_thread(release.upgrade)
    assert load.violations + rest.violations == []


async def test_the_last_generator_goes_and_a_question_calls_one_back(release: Release) -> None:
    """P17: what was asked meanwhile waits."""
    await need("keda")
    scaled = {**scaling("keda", minReplicas=0)}
    scaled["edge"] = {"enabled": False}
    scaled["keda"] |= {"cooldownPeriod": 25}
    values = {
        "generator": {"settings": {"leaseS": 10}},
        "operator": {"policy": {"stall": {"afterSeconds": 20}}},
    }
    await asyncio.to_thread(release.upgrade, **values, scaling=scaled)
    await until(lambda: release.pods("generator") == [], "the end of the last generator")
    question = Question.draw(random.Random(3), 3)
    async with Reader([release.url], api_key=release.api_key) as reader:
        asked = await reader.create(messages=question.messages, seed=question.seed)
        assert await text_of(reader.stream(asked.request_id)) == question.answer
    await asyncio.to_thread(release.upgrade)


def hpa_goes_to_zero(release: Release) -> bool:
    """Whether the API server takes one: the feature gate HPAScaleToZero."""
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "any"}
    value = {"type": "Value", "value": "1"}
    external = {"metric": {"name": QUEUE_METRIC}, "target": value}
    spec = {"scaleTargetRef": target, "minReplicas": 0, "maxReplicas": 1}
    asked: Object = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "any", "namespace": release.namespace.name},
        "spec": spec | {"metrics": [{"type": "External", "external": external}]},
    }
    try:
        kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(asked))
    except Failed as refused:
        if "minReplicas" in str(refused):
            return False
        raise
    return True


async def test_an_hpa_lets_the_last_generator_go_and_a_question_calls_one_back(
    release: Release,
) -> None:
    """P17. By what the pods measure, which a stub hands to the API server."""
    if metrics_stub.is_taken():
        pytest.skip("another adapter serves metrics")
    if not hpa_goes_to_zero(release):
        pytest.skip("the cluster has no HPAScaleToZero")
    bounds = {"minReplicas": 0, "maxReplicas": FEW, "scaleDownSeconds": 15}
    scaled = {
        "type": "hpa",
        "hpa": {"toZero": True},
        "edge": {"enabled": False},
        "generator": bounds,
    }

    def rescaled() -> list[str]:
        events = release.namespace.get("events", "--field-selector=reason=SuccessfulRescale")
        return [one["message"] for one in events["items"]]

    await asyncio.to_thread(release.upgrade)
    groups = (metrics_stub.EXTERNAL, metrics_stub.OF_PODS)
    with metrics_stub.serving(release, *groups) as stub:
        async with relayed(release, stub):
            await asyncio.to_thread(release.upgrade, scaling=scaled)
            await until(lambda: release.pods("generator") == [], "the end of the last generator")
            question = Question.draw(random.Random(5), 5)
            async with Reader([release.url], api_key=release.api_key) as reader:
                asked = await reader.create(messages=question.messages, seed=question.seed)
                assert await text_of(reader.stream(asked.request_id)) == question.answer
            await until(lambda: release.pods("generator") == [], "its end, too")
        print(*rescaled(), sep="\n")
        await asyncio.to_thread(release.upgrade)


async def test_a_number_that_somebody_else_has_set_is_not_written_over_unasked(
    release: Release,
) -> None:
    """The README says how to go on."""
    await asyncio.to_thread(release.scale, "generator", MANY)
    with pytest.raises(HelmError, match=r"conflict.*\.spec\.replicas"):
        await asyncio.to_thread(release.upgrade)
    assert len(release.ready("generator")) == MANY
    await asyncio.to_thread(release.scale, "generator", FEW)
    await asyncio.to_thread(release.upgrade)
