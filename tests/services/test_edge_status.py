"""``/status``: there when a Prometheus is named, and its figures for those who are let in."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lore.cli.fleet import free_ports
from lore.store import MemoryStore
from lore_edge.api.status import ALERTS, FIGURES
from tests.services.auth_harness import KeyRing, bearer
from tests.services.edge_harness import direct_client
from tests.services.fake_prometheus import FakePrometheus, fake_prometheus

LINES = sum(len(figure.lines) for figure in FIGURES)


@pytest.fixture
def prometheus() -> Iterator[FakePrometheus]:
    with fake_prometheus() as fake:
        yield fake


@pytest.mark.parametrize("path", ["/status", "/status/figures"])
async def test_without_a_prometheus_there_is_no_such_page(path: str) -> None:
    async with direct_client(MemoryStore()) as client:
        assert (await client.get(path)).status_code == 404
        told = (await client.get("/status")).json()["error"]
    assert told["code"] == "not_found"
    assert "LORE_PROMETHEUS_URL" in told["message"]


async def test_each_line_has_a_value_for_each_time_and_none_where_nothing_is_known(
    prometheus: FakePrometheus,
) -> None:
    prometheus.firing = ["LoreValkeyMemory", "LoreDeliveryStalled", "LoreValkeyMemory"]
    async with direct_client(MemoryStore(), prometheus_url=prometheus.url + "/") as client:
        answer = await client.get("/status/figures")
    assert answer.headers["cache-control"] == "no-store"
    found = answer.json()
    assert found["alerts"] == ["LoreDeliveryStalled", "LoreValkeyMemory"]
    assert [figure["title"] for figure in found["figures"]] == [one.title for one in FIGURES]
    for figure in found["figures"]:
        for line in figure["lines"]:
            assert len(line["values"]) == len(found["times"])
            assert (line["values"][0], line["values"][-1]) == (None, 0.5)


async def test_a_share_of_nothing_is_no_value(prometheus: FakePrometheus) -> None:
    prometheus.value = "NaN"
    async with direct_client(MemoryStore(), prometheus_url=prometheus.url) as client:
        found = (await client.get("/status/figures")).json()
    assert {
        value for one in found["figures"] for line in one["lines"] for value in line["values"]
    } == {None}


async def test_however_many_look_prometheus_is_asked_once_in_a_while(
    prometheus: FakePrometheus,
) -> None:
    async with direct_client(MemoryStore(), prometheus_url=prometheus.url) as client:
        first, second = [(await client.get("/status/figures")).json() for _ in range(2)]
    assert first == second
    assert len(prometheus.asked) == LINES + 1
    assert prometheus.asked[-1] == ALERTS


async def test_the_page_is_everybody_s_and_the_figures_are_for_those_who_are_let_in(
    prometheus: FakePrometheus, tmp_path: Path
) -> None:
    ring = KeyRing(tmp_path / "keys")
    key = ring.new("alice")
    settings = {**ring.settings, "prometheus_url": prometheus.url}
    async with direct_client(MemoryStore(), **settings) as client:
        page = await client.get("/status")
        assert page.status_code == 200
        assert "script-src 'self'" in page.headers["content-security-policy"]
        assert (await client.get("/status/figures")).status_code == 401
        assert prometheus.asked == []
        assert (await client.get("/status/figures", headers=bearer(key))).status_code == 200


async def test_a_prometheus_that_is_away_is_named() -> None:
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    async with direct_client(MemoryStore(), prometheus_url=url) as client:
        answer = await client.get("/status/figures")
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "prometheus_unavailable"
