"""The operator's own calls to the API server."""

from collections.abc import AsyncIterator

import kopf
import pytest

from lore_operator.api import ApiFailed, Conflict, Forbidden, Missing
from lore_operator.cluster import ApiServer
from tests.services.kube_stub import NAMESPACE, KubeStub, pod, policy

LABELS = {"app.kubernetes.io/component": "generator"}


@pytest.fixture
async def kube() -> AsyncIterator[KubeStub]:
    async with KubeStub().serve() as kube:
        await kube.put("pods", pod())
        yield kube


@pytest.fixture
async def cluster(kube: KubeStub) -> AsyncIterator[ApiServer]:
    async with ApiServer(NAMESPACE, kube.login) as cluster:
        yield cluster


async def test_a_cost_meant_for_a_pod_is_not_written_on_another_of_its_name(
    kube: KubeStub, cluster: ApiServer
) -> None:
    (old,) = await cluster.pods(LABELS)
    await kube.delete("pods", "gen-1")
    with pytest.raises(Missing):
        await cluster.set_cost(old, 10)
    await kube.put("pods", pod())
    with pytest.raises(Conflict):
        await cluster.set_cost(old, 10)
    assert kube.cost() is None
    (new,) = await cluster.pods(LABELS)
    await cluster.set_cost(new, 10)
    assert (await cluster.pods(LABELS))[0].cost == 10


async def test_only_the_pods_that_the_policy_selects_are_seen(
    kube: KubeStub, cluster: ApiServer
) -> None:
    edge = pod("edge-1")
    edge["metadata"]["labels"] = {"app.kubernetes.io/component": "edge"}
    await kube.put("pods", edge)
    assert [one.name for one in await cluster.pods(LABELS)] == ["gen-1"]
    assert await cluster.pods(LABELS | {"app.kubernetes.io/instance": "other"}) == []


async def test_a_token_that_was_replaced_is_used_from_the_next_call_on(kube: KubeStub) -> None:
    """A pod's token changes every hour, in its file."""
    tokens = iter(["old", "old", "new"])

    def login() -> kopf.ConnectionInfo:
        return kopf.ConnectionInfo(server=kube.url, token=next(tokens))

    async with ApiServer(NAMESPACE, login) as cluster:
        await cluster.pods(LABELS)
        await cluster.pods(LABELS)
    assert kube.tokens == ["Bearer old", "Bearer new"]


async def test_what_goes_wrong_is_told_with_the_call(kube: KubeStub, cluster: ApiServer) -> None:
    kube.denied = {("get", "streampolicies")}
    with pytest.raises(Forbidden, match=r'GET .*/lore: 403 .* get resource "streampolicies"'):
        await cluster.policy("lore")
    kube.denied = set()
    with pytest.raises(Missing, match="lore not found"):
        await cluster.policy("lore")
    await kube.put("streampolicies", policy())
    assert (await cluster.policy("lore"))["kind"] == "StreamPolicy"
    kube.away = True
    with pytest.raises(ApiFailed, match="the API server does not answer GET"):
        await cluster.policy("lore")
