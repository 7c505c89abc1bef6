"""What is found without a request's id, for the twin and for Valkey alike."""

import pytest

from lore.store import types
from lore.store.memory import directory as twin
from lore.store.valkey import directory
from tests.store.backends import Backend

LONG_MS = 60_000


async def test_a_subject_finds_its_requests_newest_first(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = backend.store
    for module in (directory, twin):
        monkeypatch.setattr(module, "MAX_LISTED", 3)
    assert types.MAX_LISTED > 3
    for number in range(5):
        monkeypatch.setattr(directory, "_now_ms", lambda now=number: 2 * 10**12 + now)
        await store.list_request("me", f"mine-{number}", keep_ms=LONG_MS)
    await store.list_request("them", "theirs", keep_ms=LONG_MS)
    assert await store.listed("me", start=0, limit=10) == ["mine-4", "mine-3", "mine-2"]
    assert await store.listed("me", start=1, limit=1) == ["mine-3"]
    assert await store.listed("nobody", start=0, limit=10) == []


async def test_equal_bodies_that_are_sent_again_find_each_their_own(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = iter(range(2 * 10**12, 3 * 10**12))
    monkeypatch.setattr(directory, "_now_ms", lambda: next(ticks))
    store = backend.store
    assert await store.attempted("body") is None
    for request_id in ("one", "two"):
        await store.note_attempt("body", request_id, window_ms=LONG_MS)
    assert [await store.attempted("body") for _ in range(3)] == ["one", "two", "one"]
    assert await store.attempted("another") is None


async def test_edges_hear_what_generators_tell_of_the_model(backend: Backend) -> None:
    store = backend.store
    assert await store.model_fact("context_tokens") is None
    await store.tell_model({"context_tokens": "8192", "model": "a"}, keep_ms=LONG_MS)
    assert await store.model_fact("context_tokens") == "8192"
    assert await store.model_fact("colour") is None
