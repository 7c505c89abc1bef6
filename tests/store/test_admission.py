"""Who may ask, and who is next: the same in the twin and in Valkey (P17)."""

import pytest

from lore.store.base import Admission
from lore.store.keys import partition_of
from lore.store.twin import COUNTED_MS, MAX_AHEAD_MS
from tests.store.backends import Backend, ids_in_one_partition

QUANTUM_MS = 1_000


async def place(backend: Backend, client: str, request_id: str) -> int:
    admission = await backend.store.admit(client, request_id, limit=0, quantum_ms=QUANTUM_MS)
    assert admission.admitted
    return admission.place_ms


async def claim_all(backend: Backend, partition: int) -> list[str]:
    claimed: list[str] = []
    while one := await backend.store.claim(partition, "g1", lease_ms=10_000):
        claimed.append(one.view.request_id)
    return claimed


async def test_a_flood_by_one_client_lets_the_next_client_pass(backend: Backend) -> None:
    """P17: whoever asks little waits behind one request of the flood, not behind all."""
    *flood, polite = ids_in_one_partition(6)
    for request_id in flood:
        await backend.open(request_id, place_ms=await place(backend, "flood", request_id))
    backend.pass_time(1)
    await backend.open(polite, place_ms=await place(backend, "polite", polite))
    claimed = await claim_all(backend, partition_of(polite))
    assert claimed == [flood[0], polite, *flood[1:]]


async def test_the_place_in_the_queue_holds_across_partitions(backend: Backend) -> None:
    """P17: generators take the partition whose first request comes first."""
    now = backend.clock.now_ms
    for request_id in ("a", "b", "c"):
        await backend.open(request_id, place_ms=await place(backend, "flood", request_id))
    await backend.open("d", place_ms=await place(backend, "polite", "d"))
    expected = [("a", 0), ("d", 0), ("b", QUANTUM_MS), ("c", 2 * QUANTUM_MS)]
    assert len({partition_of(request_id) for request_id, _ in expected}) == 4
    waiting = await backend.store.waiting()
    assert waiting == sorted((now + ms, partition_of(request_id)) for request_id, ms in expected)


async def test_a_request_handed_back_keeps_its_place(backend: Backend) -> None:
    one, two = ids_in_one_partition(2)
    await backend.open(one, place_ms=backend.clock.now_ms + 5)
    await backend.open(two, place_ms=backend.clock.now_ms + 6)
    claimed = await backend.claim(one)
    await backend.store.release(one, "g1", claimed.view.epoch)
    assert claimed.view.created_ms == backend.clock.now_ms
    assert await claim_all(backend, partition_of(one)) == [one, two]


async def test_a_client_that_paused_is_no_longer_behind(backend: Backend) -> None:
    for number in range(5):
        await place(backend, "client", f"r{number}")
    backend.pass_time(5 * QUANTUM_MS)
    assert await place(backend, "client", "later") == backend.clock.now_ms


async def test_nobody_is_put_back_without_end(backend: Backend) -> None:
    for number in range(3):
        await backend.store.admit("client", f"r{number}", limit=0, quantum_ms=MAX_AHEAD_MS)
    assert await place(backend, "client", "last") == backend.clock.now_ms + MAX_AHEAD_MS


async def test_the_limit_counts_until_a_request_is_taken_out(backend: Backend) -> None:
    """P17"""
    store = backend.store
    for request_id in ("a", "b"):
        assert (await store.admit("client", request_id, limit=2, quantum_ms=0)).admitted
        backend.pass_time(10)
    refused = await store.admit("client", "c", limit=2, quantum_ms=0)
    assert refused == Admission(False, 0, (("a", 20), ("b", 10)))
    assert (await store.admit("other", "c", limit=2, quantum_ms=0)).admitted
    await store.leave("client", ["a", "never there"])
    assert (await store.admit("client", "c", limit=2, quantum_ms=0)).admitted
    assert not (await store.admit("client", "d", limit=2, quantum_ms=0)).admitted


async def test_an_admission_may_be_repeated(backend: Backend) -> None:
    """Its answer may have been lost: it counts once, and stands where it stood."""
    first = await backend.store.admit("client", "a", limit=1, quantum_ms=QUANTUM_MS)
    assert await backend.store.admit("client", "a", limit=1, quantum_ms=QUANTUM_MS) == first


@pytest.mark.parametrize("limit", [1, 3])
async def test_what_was_never_taken_out_is_forgotten_after_a_day(
    backend: Backend, limit: int
) -> None:
    for number in range(limit):
        await backend.store.admit("client", f"r{number}", limit=limit, quantum_ms=0)
    assert not (await backend.store.admit("client", "more", limit=limit, quantum_ms=0)).admitted
    backend.pass_time(COUNTED_MS)
    assert (await backend.store.admit("client", "more", limit=limit, quantum_ms=0)).admitted
