"""Who may ask, and who is next: the same in the twin and in Valkey (P17)."""

import pytest

from lore.protocol.commands import Claim, Release, Waiting
from lore.store.base import Admission, Limits, Outcome
from lore.store.keys import PARTITIONS, partition_of
from lore.store.memory.limits import COUNTED_MS, LISTED, MAX_AHEAD_MS, MINUTE_MS
from lore.store.types import Admit, Leave, Settle
from tests.store.backends import Backend, ids_in_one_partition

QUANTUM_MS = 1_000


async def place(backend: Backend, client: str, request_id: str) -> int:
    admission = await backend.store.do(Admit(client, request_id, Limits(), quantum_ms=QUANTUM_MS))
    assert admission.admitted
    return admission.place_ms


async def claim_all(backend: Backend, partition: int) -> list[str]:
    claimed: list[str] = []
    while one := await backend.store.do(Claim(partition, "g1", lease_ms=10_000)):
        claimed.append(one.view.request_id)
    return claimed


@pytest.mark.rule("P17.4")
async def test_a_flood_by_one_client_lets_the_next_client_pass(backend: Backend) -> None:
    """P17: whoever asks little waits behind one request of the flood, not behind all."""
    *flood, polite = ids_in_one_partition(6)
    for request_id in flood:
        await backend.open(request_id, place_ms=await place(backend, "flood", request_id))
    backend.pass_time(1)
    await backend.open(polite, place_ms=await place(backend, "polite", polite))
    claimed = await claim_all(backend, partition_of(polite))
    assert claimed == [flood[0], polite, *flood[1:]]


@pytest.mark.rule("P17.4")
async def test_the_place_in_the_queue_holds_across_partitions(backend: Backend) -> None:
    """P17: generators take the partition whose first request comes first."""
    now = backend.clock.now_ms
    for request_id in ("a", "b", "c"):
        await backend.open(request_id, place_ms=await place(backend, "flood", request_id))
    await backend.open("d", place_ms=await place(backend, "polite", "d"))
    expected = [("a", 0), ("d", 0), ("b", QUANTUM_MS), ("c", 2 * QUANTUM_MS)]
    assert len({partition_of(request_id) for request_id, _ in expected}) == 4
    waiting = await backend.store.do(Waiting())
    assert waiting == sorted((now + ms, partition_of(request_id)) for request_id, ms in expected)


@pytest.mark.rule("P17.5")
async def test_a_request_handed_back_keeps_its_place(backend: Backend) -> None:
    one, two = ids_in_one_partition(2)
    await backend.open(one, place_ms=backend.clock.now_ms + 5)
    await backend.open(two, place_ms=backend.clock.now_ms + 6)
    claimed = await backend.claim(one)
    await backend.store.do(Release(one, "g1", claimed.view.epoch))
    assert claimed.view.created_ms == backend.clock.now_ms
    assert await claim_all(backend, partition_of(one)) == [one, two]


async def test_a_client_that_paused_is_no_longer_behind(backend: Backend) -> None:
    for number in range(5):
        await place(backend, "client", f"r{number}")
    backend.pass_time(5 * QUANTUM_MS)
    assert await place(backend, "client", "later") == backend.clock.now_ms


@pytest.mark.rule("P17.4")
async def test_nobody_is_put_back_without_end(backend: Backend) -> None:
    for number in range(3):
        await backend.store.do(Admit("client", f"r{number}", Limits(), quantum_ms=MAX_AHEAD_MS))
    assert await place(backend, "client", "last") == backend.clock.now_ms + MAX_AHEAD_MS


@pytest.mark.rule("P17.13")
async def test_the_limit_counts_until_a_request_is_over(backend: Backend) -> None:
    store, limits = backend.store, Limits(streams=2)
    for request_id in ("a", "b"):
        assert (await store.do(Admit("client", request_id, limits))).admitted
        backend.pass_time(10)
    refused = await store.do(Admit("client", "c", limits))
    assert refused == Admission(False, limit="streams", counted=(("a", 20), ("b", 10)))
    assert (await store.do(Admit("other", "c", limits))).admitted
    await store.do(Settle("client", {"a": None, "never there": 5}))
    assert (await store.do(Admit("client", "c", limits))).admitted
    assert not (await store.do(Admit("client", "d", limits))).admitted
    await store.do(Leave("client", "c"))
    assert (await store.do(Admit("client", "d", limits))).admitted


@pytest.mark.rule("P17.14")
@pytest.mark.parametrize(
    "limits",
    [
        Limits(streams=1),
        Limits(requests_per_minute=1),
        Limits(tokens_per_minute=10),
    ],
)
async def test_an_admission_may_be_repeated(backend: Backend, limits: Limits) -> None:
    """Its answer may have been lost: it counts once, and stands where it stood."""

    async def admit(request_id: str) -> Admission:
        return await backend.store.do(
            Admit("client", request_id, limits, tokens=10, quantum_ms=QUANTUM_MS)
        )

    first = await admit("a")
    assert first.admitted
    assert await admit("a") == first
    assert not (await admit("b")).admitted


@pytest.mark.parametrize("limit", [1, 3])
async def test_what_was_never_taken_out_is_forgotten_after_a_day(
    backend: Backend, limit: int
) -> None:
    limits = Limits(streams=limit)
    for number in range(limit):
        await backend.store.do(Admit("client", f"r{number}", limits))
    assert not (await backend.store.do(Admit("client", "more", limits))).admitted
    backend.pass_time(COUNTED_MS)
    assert (await backend.store.do(Admit("client", "more", limits))).admitted


@pytest.mark.rule("P17.13")
async def test_any_minute_has_as_many_requests_as_the_limit_says(backend: Backend) -> None:
    """P17: when there is room again is said to the millisecond."""
    store, limits = backend.store, Limits(requests_per_minute=2)
    assert (await store.do(Admit("client", "a", limits))).admitted
    backend.pass_time(20_000)
    assert (await store.do(Admit("client", "b", limits))).admitted
    backend.pass_time(30_000)
    refused = await store.do(Admit("client", "c", limits))
    assert refused == Admission(False, limit="requests", wait_ms=10_000)
    await store.do(Settle("client", {"a": 0, "b": 0}))  # their ends make no room
    backend.pass_time(9_999)
    assert not (await store.do(Admit("client", "c", limits))).admitted
    backend.pass_time(1)
    assert (await store.do(Admit("client", "c", limits))).admitted
    assert (await store.do(Admit("client", "d", limits))).wait_ms == 20_000


async def test_a_lowered_limit_waits_for_all_that_is_over_it(backend: Backend) -> None:
    for number in range(3):
        await backend.store.do(Admit("client", f"r{number}", Limits(requests_per_minute=3)))
        backend.pass_time(1_000)
    refused = await backend.store.do(Admit("client", "more", Limits(requests_per_minute=1)))
    assert refused.wait_ms == MINUTE_MS - 1_000


@pytest.mark.rule("P17.15")
async def test_tokens_count_as_asked_for_and_then_as_used(backend: Backend) -> None:
    """P17: also when an answer took more than was thought."""
    store, limits = backend.store, Limits(tokens_per_minute=100)

    async def admit(request_id: str, tokens: int) -> Admission:
        return await store.do(Admit("client", request_id, limits, tokens=tokens))

    assert (await admit("a", 60)).admitted
    backend.pass_time(1_000)
    assert (await admit("b", 40)).admitted
    refused = await admit("c", 50)
    open_now = (("a", 1_000), ("b", 0))
    assert refused == Admission(False, limit="tokens", wait_ms=59_000, counted=open_now)
    assert (await admit("c", 61)).wait_ms == MINUTE_MS
    await store.do(Settle("client", {"a": 10}))
    assert (await admit("c", 50)).admitted
    await store.do(Settle("client", {"b": 41}))
    assert not (await admit("d", 1)).admitted  # 10 + 41 + 50
    await store.do(Settle("client", {"c": None}))  # nobody knows what it used
    assert not (await admit("d", 1)).admitted
    await store.do(Leave("client", "c"))
    assert (await admit("d", 49)).admitted
    backend.pass_time(59_000)
    assert (await admit("e", 10)).admitted
    backend.pass_time(1_000)
    assert (await admit("f", 90)).admitted  # only e counts of what there was
    await store.do(Settle("client", {"b": 1_000_000}))  # of another minute
    assert (await admit("g", 1)).wait_ms == MINUTE_MS - 1_000


@pytest.mark.rule("P17.14")
async def test_a_refused_request_counts_for_no_limit(backend: Backend) -> None:
    store = backend.store
    tight = Limits(streams=5, requests_per_minute=5, tokens_per_minute=100)
    assert (await store.do(Admit("client", "a", tight, tokens=60, quantum_ms=10))).admitted
    for number in range(10):
        refused = await store.do(Admit("client", f"r{number}", tight, tokens=41, quantum_ms=10))
        assert refused.limit == "tokens"
    for number in range(4):
        admission = await store.do(Admit("client", f"s{number}", tight, tokens=10, quantum_ms=10))
        assert admission == Admission(True, backend.clock.now_ms + 10 * (number + 1), number + 1)
    assert (await store.do(Admit("client", "more", tight, quantum_ms=10))).limit == "streams"


async def test_the_limit_that_lasts_longest_is_named(backend: Backend) -> None:
    store, limits = backend.store, Limits(requests_per_minute=2, tokens_per_minute=100)
    await store.do(Admit("client", "a", limits, tokens=90))
    backend.pass_time(1_000)
    await store.do(Admit("client", "b", limits, tokens=10))
    by_requests = await store.do(Admit("client", "c", limits, tokens=0))
    assert (by_requests.limit, by_requests.wait_ms) == ("requests", 59_000)
    by_tokens = await store.do(Admit("client", "c", limits, tokens=91))
    assert (by_tokens.limit, by_tokens.wait_ms) == ("tokens", 60_000)


async def test_of_many_open_requests_all_are_named_in_time(backend: Backend) -> None:
    """Not all at once: a refused call would cost a look at each."""
    limits = Limits(streams=LISTED + 2)
    for number in range(LISTED + 2):
        await backend.store.do(Admit("client", f"r{number}", limits))
    named: set[str] = set()
    for _ in range(3):
        refused = await backend.store.do(Admit("client", "more", limits))
        assert len(refused.counted) == LISTED
        named |= {request_id for request_id, _ in refused.counted}
        backend.pass_time(1)
    assert len(named) == LISTED + 2


@pytest.mark.rule("P17.3")
async def test_one_client_leaves_the_last_places_of_a_queue_to_others(backend: Backend) -> None:
    """P17: from half full on, it needs as many free places as it has requests ahead."""
    first, second, third, fourth = ids_in_one_partition(4)
    for request_id in (first, second):
        assert (await backend.open(request_id, queue_limit=4)).created
    refused = await backend.open(third, queue_limit=4, ahead=2 * PARTITIONS)
    assert refused.outcome is Outcome.FULL
    assert (await backend.open(third, queue_limit=5, ahead=2 * PARTITIONS)).created
    assert (await backend.open(fourth, queue_limit=4, ahead=PARTITIONS - 1)).created


async def test_who_asks_a_lot_hears_how_many_stand_ahead(backend: Backend) -> None:
    for ahead in range(3):
        admission = await backend.store.do(
            Admit("client", f"r{ahead}", Limits(), quantum_ms=QUANTUM_MS)
        )
        assert admission.ahead == ahead
    backend.pass_time(QUANTUM_MS + 1)
    later = await backend.store.do(Admit("client", "later", Limits(), quantum_ms=QUANTUM_MS))
    assert later.ahead == 1
