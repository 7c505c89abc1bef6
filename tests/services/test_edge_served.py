"""Under which name the model is asked for (PROTOCOL.md, OpenAI's API)."""

from typing import Any

import pytest

from lore_edge.admission import served_model
from tests.services.edge_harness import FaultyStore, direct_client

HUB = "Qwen/Qwen3-8B"


async def statuses(store: FaultyStore, *names: str, **settings: Any) -> list[int]:
    async with direct_client(store, **settings) as client:
        return [(await client.get(f"/v1/models/{name}")).status_code for name in names]


async def listed(store: FaultyStore, **settings: Any) -> tuple[list[str], str | None]:
    """What ``/v1/models`` and the page say."""
    async with direct_client(store, **settings) as client:
        models = (await client.get("/v1/models")).json()["data"]
        return [one["id"] for one in models], (await client.get("/web/config.json")).json()["model"]


async def tell(store: FaultyStore, name: str) -> None:
    await store.tell_model({"model": name}, keep_ms=60_000)


@pytest.mark.rule("O4")
@pytest.mark.parametrize(
    ("told", "is_set", "name", "taken"),
    [
        ("", "", "default", ["default"]),
        (HUB, "", HUB, [HUB, "default"]),
        (HUB, "ours", "ours", ["ours"]),
        ("", "ours", "ours", ["ours"]),
    ],
)
async def test_the_model_has_the_name_that_is_set_or_that_generators_tell(
    told: str, is_set: str, name: str, taken: list[str]
) -> None:
    store = FaultyStore()
    if told:
        await tell(store, told)
    assert await listed(store, model=is_set) == ([name], None if name == "default" else name)
    known = await statuses(store, HUB, "ours", "default", model=is_set)
    assert known == [200 if one in taken else 404 for one in (HUB, "ours", "default")]


async def test_a_name_that_was_heard_once_is_known_without_generators_and_without_the_store(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(served_model, "HEARD_S", 0.0)
    store = FaultyStore()
    await tell(store, HUB)
    async with direct_client(store) as client:
        assert (await client.get(f"/v1/models/{HUB}")).status_code == 200
        await store.tell_model({}, keep_ms=0)
        assert (await client.get(f"/v1/models/{HUB}")).status_code == 200
        store.away = True
        assert (await client.get(f"/v1/models/{HUB}")).status_code == 200
        assert (await client.get("/v1/models/x")).status_code == 404


async def test_a_name_that_cannot_be_found_out_is_not_called_unknown() -> None:
    store = FaultyStore()
    store.away = True
    assert await statuses(store, HUB, "default") == [503, 200]
    assert await listed(store) == (["default"], None)
    assert await statuses(store, HUB, "ours", model="ours") == [404, 200]
