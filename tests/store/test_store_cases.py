"""What every store does, case by case, for the twin and for Valkey alike."""

import asyncio
from dataclasses import replace

import pytest

from lore.protocol.chunk import Chunk
from lore.protocol.commands import (
    Ack,
    Cancel,
    Claim,
    Reap,
    Reinstate,
    Release,
    Renew,
    Revive,
    Waiting,
)
from lore.protocol.lifecycle import Status
from lore.protocol.logprobs import Scored, likely
from lore.store import MemoryStore
from lore.store.base import (
    AckMessage,
    ChunkMessage,
    Claimed,
    News,
    Outcome,
    Position,
    StateMessage,
)
from lore.store.keys import partition_of
from lore.store.types import Open
from tests.store.backends import (
    LEASE_MS,
    RETENTION_MS,
    Backend,
    Recorder,
    chunk,
    chunks,
    ids_in_one_partition,
    new,
)


async def test_a_new_request_waits_in_its_queue(backend: Backend) -> None:
    opened = await backend.open("a", window=64)
    assert opened.created
    assert opened.view.status is Status.QUEUED
    assert (opened.view.window, opened.view.next_seq, opened.view.acked_seq) == (64, 1, 0)
    assert await backend.store.do(Waiting()) == [(backend.clock.now_ms, partition_of("a"))]
    assert await backend.store.queue_depth() == 1
    assert await backend.store.body("a") == '{"question": "why?"}'


async def test_opening_again_finds_the_same_request(backend: Backend) -> None:
    first = await backend.open("a")
    backend.pass_time(5)
    again = await backend.open("a")
    assert (again.outcome, again.created, again.view) == (Outcome.OK, False, first.view)
    assert await backend.store.queue_depth() == 1


@pytest.mark.rule("P17.2")
async def test_a_full_queue_creates_nothing(backend: Backend) -> None:
    one, two = ids_in_one_partition(2)
    await backend.open(one, queue_limit=1)
    refused = await backend.open(two, queue_limit=1)
    assert (refused.outcome, refused.created, refused.view) == (Outcome.FULL, False, None)
    assert await backend.store.view(two) is None
    assert (await backend.open(one, queue_limit=1)).outcome is Outcome.OK


async def test_the_oldest_request_is_claimed_first(backend: Backend) -> None:
    one, two, three = ids_in_one_partition(3)
    for request_id in (two, three, one):
        await backend.open(request_id)
        backend.pass_time(1)
    for request_id in (two, three, one):
        claimed = await backend.claim(request_id)
        assert claimed.view.status is Status.GENERATING
        assert claimed.body == '{"question": "why?"}'
    assert await backend.store.do(Claim(partition_of(one), "g1", lease_ms=LEASE_MS)) is None
    assert await backend.store.do(Waiting()) == []


@pytest.mark.rule("P2.7")
async def test_epochs_come_from_the_clock_and_only_grow(backend: Backend) -> None:
    first = await backend.owned()
    assert first.view.epoch == backend.clock.now_ms
    await backend.store.do(Release("a", "g1", first.view.epoch))
    second = await backend.claim()
    assert second.view.epoch == first.view.epoch + 1


@pytest.mark.rule("P4.1")
async def test_appended_chunks_are_read_back_as_they_were(backend: Backend) -> None:
    claimed = await backend.owned()
    texts = ["Grüße 🌍\n\r\n", "", " ", "\x00\u2028c 1 2", "x" * 200_000, "c 1 2 3\nd"]
    sent = [Chunk(i + 1, text, (7, 0, 150_000)[: i % 4], 10 * i) for i, text in enumerate(texts)]
    position = await backend.append(claimed, *sent)
    assert position == Position(Outcome.OK, Status.GENERATING, len(texts) + 1, 0, 0)
    assert await backend.store.log("a") == sent
    now = backend.clock.now_ms
    log_id = claimed.view.log_id
    expected = [ChunkMessage(c.seq, c.text, c.tokens, now, log_id) for c in sent]
    assert await backend.store.read("a", after=0) == expected
    assert await backend.store.read("a", after=2, limit=2) == expected[2:4]
    assert await backend.store.read("a", after=len(texts)) == []


@pytest.mark.rule("H16")
async def test_log_probabilities_are_read_back_as_they_were(backend: Backend) -> None:
    """And a repeated append of them is the same append."""
    claimed = await backend.owned()
    other = likely(150_000, b"", -12.25)
    scored = (
        Scored(likely(0, "é".encode()[:1], -0.1234567), (other, likely(5, b"\x00\xff\n", 0.0))),
        Scored(likely(7, b" word", -1e9)),
    )
    sent = [
        Chunk(1, "a", (0, 7), 2, scored),
        Chunk(2, "b", (8,), 3),
        Chunk(3, "", (9,), 4, scored[1:]),
    ]
    for _ in range(2):
        assert (await backend.append(claimed, *sent)).outcome is Outcome.OK
    assert await backend.store.log("a") == sent
    read = await backend.store.read("a", after=0)
    assert [one.scored for one in read] == [scored, (), scored[1:]]


async def test_a_long_log_is_read_whole(backend: Backend) -> None:
    claimed = await backend.owned()
    await backend.append(claimed, *chunks(1, 2_500))
    assert await backend.store.log("a") == chunks(1, 2_500)


@pytest.mark.rule("P2.2")
async def test_an_append_may_be_repeated(backend: Backend) -> None:
    claimed = await backend.owned()
    await backend.append(claimed, *chunks(1, 3))
    again = await backend.append(claimed, *chunks(2, 5))
    assert (again.outcome, again.next_seq) == (Outcome.OK, 6)
    assert await backend.store.log("a") == chunks(1, 5)


@pytest.mark.rule("P2.1", "P2.2", "P2.4", "P2.5")
@pytest.mark.parametrize(
    ("sent", "outcome"),
    [
        ([chunk(4)], Outcome.GAP),
        ([chunk(3), chunk(5)], Outcome.GAP),
        ([chunk(2), chunk(4)], Outcome.GAP),
        ([chunk(2, "other")], Outcome.CONFLICT),
        ([chunk(2)._replace(token_ids=(9,))], Outcome.CONFLICT),
        ([chunk(2)._replace(tokens=5)], Outcome.CONFLICT),
        ([chunk(3), chunk(3)], Outcome.CONFLICT),
        ([chunk(3)._replace(tokens=3)], Outcome.CONFLICT),
        ([chunk(0)], Outcome.CONFLICT),
    ],
)
async def test_an_append_that_does_not_fit_changes_nothing(
    backend: Backend, sent: list[Chunk], outcome: Outcome
) -> None:
    claimed = await backend.owned()
    await backend.append(claimed, *chunks(1, 2))
    before = await backend.store.view("a")
    backend.pass_time(1)
    refused = await backend.append(claimed, *sent)
    assert (refused.outcome, refused.next_seq) == (outcome, 3)
    assert await backend.store.view("a") == before
    assert await backend.store.log("a") == chunks(1, 2)


@pytest.mark.rule("P2.1")
async def test_appends_of_one_turn_are_each_judged_by_themselves(backend: Backend) -> None:
    """P2: what goes to the server together, from whatever partitions, fails by itself."""
    mates = ids_in_one_partition(2)
    ids = [mates[0], "b", mates[1], "c", "d"]
    assert len({partition_of(name) for name in ids}) == 4
    claimed = {name: await backend.owned(name) for name in ids}
    answers = await asyncio.gather(
        backend.append(claimed[ids[0]], *chunks(1, 3)),
        backend.append(claimed["b"], chunk(2)),
        backend.append(claimed[ids[2]], chunk(1), owner="g2"),
        backend.append(claimed["c"], chunk(1), request_id="gone"),
        backend.append(claimed["d"], chunk(1), reopen_tokens=1),
        backend.append(claimed["c"]),
    )
    outcomes = [Outcome.OK, Outcome.GAP, Outcome.FENCED, Outcome.UNKNOWN, Outcome.OK, Outcome.OK]
    assert [answer.outcome for answer in answers] == outcomes
    assert [answer.next_seq for answer in answers] == [4, 1, 1, 0, 2, 1]
    assert answers[4].status is Status.PAUSED
    logs = [await backend.store.log(name) for name in ids]
    assert logs == [chunks(1, 3), [], [], [], [chunk(1)]]


@pytest.mark.rule("P2.3", "P2.5")
@pytest.mark.parametrize("how", ["older epoch", "other owner", "other log"])
async def test_who_does_not_hold_the_lease_is_fenced(backend: Backend, how: str) -> None:
    claimed = await backend.owned()
    epoch = claimed.view.epoch
    before = await backend.store.view("a")
    refused = await backend.append(
        claimed,
        chunk(1),
        **{
            "older epoch": {"epoch": epoch - 1},
            "other owner": {"owner": "g2"},
            "other log": {"log_id": "of-a-lost-fork"},
        }[how],
    )
    assert refused.outcome is Outcome.FENCED
    assert await backend.store.view("a") == before
    assert await backend.store.log("a") == []


@pytest.mark.rule("P2.3", "P15.2")
async def test_a_lapsed_lease_passes_to_the_next_and_fences_the_last(backend: Backend) -> None:
    first = await backend.owned("a", "g1")
    await backend.append(first, chunk(1))
    partition = partition_of("a")
    backend.pass_time(LEASE_MS - 1)
    assert await backend.store.do(Claim(partition, "g2", lease_ms=LEASE_MS)) is None
    backend.pass_time(1)
    assert await backend.store.do(Waiting()) == [(first.view.created_ms, partition)]
    second = await backend.claim("a", "g2")
    assert second.view.next_seq == 2
    assert second.view.log_id == first.view.log_id
    assert (await backend.append(first, chunk(2))).outcome is Outcome.FENCED
    assert (await backend.append(second, chunk(2))).outcome is Outcome.OK


@pytest.mark.rule("P15.23")
async def test_an_append_does_not_renew_a_lease(backend: Backend) -> None:
    claimed = await backend.owned("a")
    backend.pass_time(LEASE_MS // 2)
    assert (await backend.append(claimed, chunk(1))).outcome is Outcome.OK
    view = await backend.store.view("a")
    assert view is not None
    assert view.lease_until_ms == claimed.view.lease_until_ms
    backend.pass_time(LEASE_MS // 2)
    assert await backend.store.do(Claim(partition_of("a"), "g2", lease_ms=LEASE_MS)) is not None


@pytest.mark.rule("P15.1")
async def test_renewing_keeps_a_lease(backend: Backend) -> None:
    one, two, three = ids_in_one_partition(3)
    owned = [await backend.owned(request_id) for request_id in (one, two)]
    backend.pass_time(LEASE_MS - 1)
    partition = partition_of(one)
    first, second = (claimed.view for claimed in owned)
    leases = [
        (one, first.epoch, first.log_id),
        (two, second.epoch - 1, second.log_id),
        (three, 1, "log"),
    ]
    outcomes = await backend.store.do(Renew(partition, "g1", leases=leases, lease_ms=LEASE_MS))
    assert [p.outcome for p in outcomes] == [Outcome.OK, Outcome.FENCED, Outcome.UNKNOWN]
    backend.pass_time(1)
    assert (await backend.claim(two, "g2")).view.epoch > owned[1].view.epoch
    assert await backend.store.do(Claim(partition, "g2", lease_ms=LEASE_MS)) is None


async def test_a_released_request_is_in_front_again(backend: Backend) -> None:
    one, two = ids_in_one_partition(2)
    claimed = await backend.owned(one)
    backend.pass_time(1)
    await backend.open(two)
    for _ in range(2):
        released = await backend.store.do(Release(one, "g1", claimed.view.epoch))
        assert (released.outcome, released.status) == (Outcome.OK, Status.QUEUED)
    await backend.claim(one, "g2")
    fenced = await backend.store.do(Release(one, "g1", claimed.view.epoch))
    assert fenced.outcome is Outcome.FENCED


@pytest.mark.rule("P15.16")
async def test_claims_that_come_to_nothing_are_counted_until_something_does(
    backend: Backend,
) -> None:
    """P15: a chunk, a closed window or a hand-back ends the count; a failure adds to it."""
    claimed = await backend.owned("a")
    assert claimed.view.tries == 1
    for tries in (2, 3):
        backend.pass_time(LEASE_MS)
        claimed = await backend.claim("a")
        assert claimed.view.tries == tries
    store, view = backend.store, claimed.view
    assert (await store.do(Release("a", "g1", view.epoch))).outcome is Outcome.OK
    assert (await store.do(Release("a", "g1", view.epoch))).outcome is Outcome.OK
    claimed = await backend.claim("a")
    assert claimed.view.tries == 3
    await store.do(Release("a", "g1", claimed.view.epoch, why="failed"))
    assert await store.do(Claim(partition_of("a"), "g1", lease_ms=LEASE_MS, untried=True)) is None
    claimed = await backend.claim("a")
    assert claimed.view.tries == 4
    await backend.append(claimed, chunk(1))
    backend.pass_time(LEASE_MS)
    claimed = await backend.claim("a")
    assert claimed.view.tries == 1
    await backend.append(claimed, reopen_tokens=9)
    view = await store.view("a")
    assert view is not None
    assert view.tries == 0


@pytest.mark.rule("P15.17")
async def test_what_was_not_tried_yet_can_be_claimed_past_what_was(backend: Backend) -> None:
    """P15: of lapsed leases as of the queue."""
    names = ids_in_one_partition(4)
    partition = partition_of(names[0])
    for name in names:
        await backend.open(name)
        backend.pass_time(1)
    lapsed, released = await backend.claim(names[0]), await backend.claim(names[1])
    await backend.store.do(Release(names[1], "g1", released.view.epoch, why="failed"))
    backend.pass_time(LEASE_MS)
    for wanted in names[2:]:
        claimed = await backend.store.do(Claim(partition, "g2", lease_ms=LEASE_MS, untried=True))
        assert claimed is not None
        assert claimed.view.request_id == wanted
    assert await backend.store.do(Claim(partition, "g2", lease_ms=LEASE_MS, untried=True)) is None
    assert (await backend.claim(lapsed.view.request_id)).view.tries == 2


@pytest.mark.rule("P9.1", "P9.3")
async def test_acks_are_cumulative_and_never_go_back(backend: Backend) -> None:
    claimed = await backend.owned()
    await backend.append(claimed, *chunks(1, 4))
    assert (await backend.store.do(Ack("a", 3))).acked_tokens == 6
    for late in (3, 1, 0, -1):
        position = await backend.store.do(Ack("a", late))
        assert (position.outcome, position.acked_seq, position.acked_tokens) == (Outcome.OK, 3, 6)


@pytest.mark.rule("P9.2")
async def test_an_ack_ahead_of_the_log_is_refused(backend: Backend) -> None:
    claimed = await backend.owned()
    await backend.append(claimed, *chunks(1, 4))
    position = await backend.store.do(Ack("a", 5))
    assert (position.outcome, position.acked_seq) == (Outcome.AHEAD, 0)
    assert (await backend.store.do(Ack("b", 1))).outcome is Outcome.UNKNOWN


@pytest.mark.rule("P2.10", "P6.4")
async def test_a_closed_window_pauses_until_the_acks_reach_the_mark(backend: Backend) -> None:
    owner = Recorder()
    await backend.store.subscribe("a", owner)
    claimed = await backend.owned()
    paused = await backend.append(claimed, *chunks(1, 4), reopen_tokens=4)
    assert paused.status is Status.PAUSED
    assert (await backend.store.do(Ack("a", 1))).status is Status.PAUSED
    opened = await backend.store.do(Ack("a", 2))
    assert opened.status is Status.GENERATING
    assert await owner.first(1) == [
        News(Position(Outcome.OK, Status.GENERATING, 5, 2, 4), claimed.view.epoch)
    ]


async def test_a_window_that_acks_have_opened_meanwhile_does_not_pause(backend: Backend) -> None:
    """P6"""
    claimed = await backend.owned()
    await backend.append(claimed, *chunks(1, 2))
    await backend.store.do(Ack("a", 2))
    position = await backend.append(claimed, chunk(3), reopen_tokens=4)
    assert (position.status, position.acked_tokens) == (Status.GENERATING, 4)


async def test_an_owner_with_credit_ends_its_pause(backend: Backend) -> None:
    claimed = await backend.owned()
    await backend.append(claimed, chunk(1), reopen_tokens=2)
    assert (await backend.append(claimed, reopen_tokens=1)).status is Status.PAUSED
    assert (await backend.append(claimed, window=64)).status is Status.GENERATING
    view = await backend.store.view("a")
    assert view is not None
    assert view.window == 64


@pytest.mark.rule("P4.1")
async def test_readers_hear_of_everything_in_order(backend: Backend) -> None:
    reader = Recorder()
    await backend.store.follow("a", reader)
    claimed = await backend.owned()
    await backend.append(claimed, *chunks(1, 2), reopen_tokens=2)
    await backend.store.do(Ack("a", 1))
    await backend.store.do(Ack("a", 1))
    await backend.finish(claimed, 3)
    now = backend.clock.now_ms
    assert await reader.first(7) == [
        StateMessage(Status.GENERATING, "claimed"),
        ChunkMessage(1, "word 1 ", 2, now, claimed.view.log_id),
        ChunkMessage(2, "word 2 ", 4, now, claimed.view.log_id),
        StateMessage(Status.PAUSED, "paused"),
        AckMessage(1, 2),
        StateMessage(Status.GENERATING, "resumed"),
        StateMessage(Status.DONE, "ended"),
    ]


async def test_who_stops_following_hears_nothing_more(backend: Backend) -> None:
    gone, stays = Recorder(), Recorder()
    await backend.store.follow("a", gone)
    await backend.store.follow("a", stays)
    backend.store.unfollow("a", gone)
    claimed = await backend.owned()
    await backend.append(claimed, chunk(1))
    await stays.first(2)
    assert gone.heard == []
    backend.store.unfollow("a", stays)
    backend.store.unfollow("a", stays)
    await backend.store.follow("a", gone)
    await backend.append(claimed, chunk(2))
    (heard,) = await gone.first(1)
    assert heard.seq == 2
    assert len(stays.heard) == 2


async def test_generators_are_woken_for_what_waits(backend: Backend) -> None:
    generator = Recorder()
    await backend.store.on_wake(generator)
    claimed = await backend.owned()
    await backend.store.do(Release("a", "g1", claimed.view.epoch))
    assert await generator.first(2) == [("wake", partition_of("a"))] * 2


async def test_finishing_needs_the_whole_log(backend: Backend) -> None:
    """P13"""
    claimed = await backend.owned()
    await backend.append(claimed, *chunks(1, 2))
    gap = await backend.finish(claimed, 4)
    assert (gap.outcome, gap.next_seq) == (Outcome.GAP, 3)
    assert (await backend.finish(claimed, 2)).outcome is Outcome.CONFLICT
    done = await backend.finish(claimed, 3, prompt_tokens=11)
    assert (done.outcome, done.status) == (Outcome.OK, Status.DONE)
    view = await backend.store.view("a")
    assert view is not None
    assert (view.prompt_tokens, view.finish_reason, view.owner) == (11, "stop", "")
    assert view.finished_ms == backend.clock.now_ms


@pytest.mark.rule("P13.2")
async def test_finishing_may_be_repeated_and_ends_the_lease(backend: Backend) -> None:
    claimed = await backend.owned()
    arguments = {"status": Status.FAILED, "finish_reason": "error", "error": "out of memory"}
    for _ in range(2):
        done = await backend.finish(claimed, 1, **arguments)
        assert (done.outcome, done.status) == (Outcome.OK, Status.FAILED)
    assert (await backend.finish(claimed, 1)).outcome is Outcome.FENCED
    assert (await backend.append(claimed, chunk(1))).outcome is Outcome.FENCED
    assert await backend.store.live() == []


@pytest.mark.rule("P2.10", "P14.1")
async def test_cancelling_is_final_and_tells_the_owner(backend: Backend) -> None:
    owner = Recorder()
    await backend.store.subscribe("a", owner)
    claimed = await backend.owned()
    for _ in range(2):
        position = await backend.store.do(Cancel("a", retention_ms=RETENTION_MS))
        assert (position.outcome, position.status) == (Outcome.OK, Status.CANCELLED)
    assert await owner.first(1) == [
        News(Position(Outcome.FENCED, Status.CANCELLED, 1, 0, 0), claimed.view.epoch)
    ]
    assert (await backend.append(claimed, chunk(1))).outcome is Outcome.FENCED
    assert (await backend.store.do(Revive("a"))).outcome is Outcome.REFUSED


@pytest.mark.rule("P14.1")
async def test_a_queued_request_can_be_cancelled(backend: Backend) -> None:
    await backend.open("a")
    await backend.store.do(Cancel("a", retention_ms=RETENTION_MS))
    assert await backend.store.queue_depth() == 0
    assert await backend.store.do(Waiting()) == []


async def test_what_ended_otherwise_cannot_be_cancelled(backend: Backend) -> None:
    """P14"""
    await backend.finish(await backend.owned(), 1)
    refused = await backend.store.do(Cancel("a", retention_ms=RETENTION_MS))
    assert (refused.outcome, refused.status) == (Outcome.REFUSED, Status.DONE)
    assert (await backend.store.do(Cancel("b", retention_ms=1))).outcome is Outcome.UNKNOWN


@pytest.mark.rule("P16.1", "P16.2")
async def test_a_stalled_request_is_reaped_and_can_be_revived(backend: Backend) -> None:
    owner, generator = Recorder(), Recorder()
    await backend.store.subscribe("a", owner)
    claimed = await backend.owned()
    await backend.append(claimed, *chunks(1, 3), reopen_tokens=1)
    backend.pass_time(99)
    reap = Reap("a", idle_ms=100, retention_ms=RETENTION_MS)
    assert (await backend.store.do(reap)).outcome is Outcome.REFUSED
    backend.pass_time(1)
    assert (await backend.store.do(reap)).status is Status.REAPED
    assert await owner.first(1) == [
        News(Position(Outcome.FENCED, Status.REAPED, 4, 0, 0), claimed.view.epoch)
    ]
    assert (await backend.store.do(reap)).outcome is Outcome.REFUSED
    assert await backend.store.live() == []
    assert (await backend.append(claimed, chunk(4))).outcome is Outcome.FENCED

    await backend.store.on_wake(generator)
    assert (await backend.store.do(Revive("a"))).status is Status.QUEUED
    assert await generator.first(1) == [("wake", partition_of("a"))]
    backend.pass_time(RETENTION_MS)
    again = await backend.claim("a", "g2")
    assert again.view.next_seq == 4
    assert await backend.store.log("a") == chunks(1, 3)


@pytest.mark.parametrize("how", ["finished", "cancelled", "reaped"])
async def test_what_is_over_expires(backend: Backend, how: str) -> None:
    claimed = await backend.owned()
    await backend.append(claimed, chunk(1))
    if how == "finished":
        await backend.finish(claimed, 2)
    elif how == "cancelled":
        await backend.store.do(Cancel("a", retention_ms=RETENTION_MS))
    else:
        await backend.store.do(Reap("a", idle_ms=0, retention_ms=RETENTION_MS))
    backend.pass_time(RETENTION_MS - 1)
    assert await backend.store.log("a") == [chunk(1)]
    backend.pass_time(1)
    assert await backend.store.view("a") is None
    assert await backend.store.body("a") is None
    assert await backend.store.log("a") == []
    assert await backend.store.read("a", after=0) == []


async def test_live_requests_come_longest_without_progress_first(backend: Backend) -> None:
    """P16"""
    for request_id in ("a", "b", "c"):
        await backend.open(request_id)
        backend.pass_time(1)
    claimed = await backend.claim("a")
    backend.pass_time(1)
    await backend.append(claimed, chunk(1))
    assert [view.request_id for view in await backend.store.live()] == ["b", "c", "a"]
    assert [view.request_id for view in await backend.store.live(limit=2)] == ["b", "c"]


async def test_many_calls_at_once_all_get_their_own_answers(backend: Backend) -> None:
    names = [f"r{number}" for number in range(200)]
    opened = await asyncio.gather(
        *(backend.store.do(Open(new(name), queue_limit=200)) for name in names)
    )
    assert [o.view.request_id for o in opened if o.view] == names
    views = await asyncio.gather(*(backend.store.view(name) for name in names))
    assert [v.request_id for v in views if v] == names


@pytest.mark.rule("P3.3")
async def test_a_forgotten_request_is_given_back_as_its_owner_knows_it(backend: Backend) -> None:
    """P3: the hash, the log and the acks; the owner goes on under the same epoch."""
    known = (await backend.owned("a")).view
    other = Backend(MemoryStore(clock_ms=backend.clock), backend.clock, expire=lambda now_ms: None)
    view = replace(known, request_id="b", acked_seq=2, acked_tokens=4, window=64, prompt_tokens=7)
    view = replace(view, model="m@1")
    heard = Recorder()
    await backend.store.follow("b", heard)
    for store in (backend.store, other.store):
        back = await store.do(Reinstate(view, "body", chunks(1, 3), lease_ms=LEASE_MS))
        assert back == Position(Outcome.OK, Status.GENERATING, 4, 2, 4)
        found = await store.view("b")
        assert found == replace(
            view,
            next_seq=4,
            generated_tokens=6,
            progress_ms=backend.clock.now_ms,
            lease_until_ms=backend.clock.now_ms + LEASE_MS,
            tries=0,
        )
        assert await store.body("b") == "body"
        assert await store.log("b") == chunks(1, 3)
    assert await heard.first(1) == [StateMessage(Status.GENERATING, "failed_over")]
    mine = Claimed(view, "body", "")
    assert (await backend.append(mine, chunk(4))).outcome is Outcome.OK
    assert (await backend.finish(mine, 5)).outcome is Outcome.OK


async def test_what_the_store_has_is_not_given_back_but_judged(backend: Backend) -> None:
    """P2, P3: repeated, it is this owner's still; taken over since, it is not."""
    first = await backend.owned("a")
    await backend.append(first, *chunks(1, 2))
    again = await backend.store.do(Reinstate(first.view, "other", chunks(1, 1), lease_ms=LEASE_MS))
    assert again == Position(Outcome.OK, Status.GENERATING, 3, 0, 0)
    assert await backend.store.log("a") == chunks(1, 2)
    forked = replace(first.view, log_id="another")
    refused = await backend.store.do(Reinstate(forked, "other", [], lease_ms=LEASE_MS))
    assert refused.outcome is Outcome.FENCED
    backend.pass_time(LEASE_MS)
    await backend.claim("a", "g2")
    late = await backend.store.do(Reinstate(first.view, "other", [], lease_ms=LEASE_MS))
    assert late.outcome is Outcome.FENCED


async def test_a_request_given_back_lapses_like_any_other(backend: Backend) -> None:
    """P15, P17: its new owner may die as well."""
    view = replace((await backend.owned("a")).view, request_id="b")
    await backend.store.do(Reinstate(view, "body", chunks(1, 3), lease_ms=LEASE_MS))
    backend.pass_time(LEASE_MS)
    claimed = await backend.claim("b", "g2")
    assert (claimed.body, claimed.view.next_seq, claimed.view.owner) == ("body", 4, "g2")
