"""Whose a request is, and how its owner has it deleted: the same in the twin and in Valkey."""

from collections.abc import Awaitable, Callable

import pytest

from lore.protocol.commands import (
    Ack,
    Cancel,
    Claim,
    Forget,
    Reap,
    Reinstate,
    Renew,
    Revive,
    Waiting,
)
from lore.protocol.lifecycle import Status
from lore.store import ValkeyStore
from lore.store.base import News, Outcome, Position, StateMessage
from lore.store.keys import partition_of
from lore.store.memory.records import DELETED_MS
from tests.store.backends import LEASE_MS, RETENTION_MS, Backend, Recorder, chunk, chunks

UNKNOWN = Position(Outcome.UNKNOWN, None)
MINE = "subject"

STATES = ["queued", "generating", "paused", "reaped", "done", "cancelled"]


async def brought_to(backend: Backend, state: str) -> None:
    """Request ``a`` of ``MINE``, with two chunks once it was begun."""
    await backend.open("a")
    if state == "queued":
        return
    claimed = await backend.claim("a")
    await backend.append(claimed, *chunks(1, 2), reopen_tokens=4 if state == "paused" else 0)
    if state == "reaped":
        await backend.store.do(Reap("a", idle_ms=0, retention_ms=RETENTION_MS))
    elif state == "done":
        await backend.finish(claimed, 3)
    elif state == "cancelled":
        await backend.store.do(Cancel("a", retention_ms=RETENTION_MS))


async def lost_data(backend: Backend) -> None:
    """The server was restarted: it is another one to those who kept something (P4)."""
    store = backend.store
    if isinstance(store, ValkeyStore):
        store._functions[0].run_id = "restarted"
    else:
        store.state.run_id = "restarted"  # type: ignore[attr-defined]


CALLS: dict[str, Callable[[Backend, str], Awaitable[Position]]] = {
    "ack": lambda b, whose: b.store.do(Ack("a", 1, subject=whose)),
    "cancel": lambda b, whose: b.store.do(Cancel("a", retention_ms=RETENTION_MS, subject=whose)),
    "revive": lambda b, whose: b.store.do(Revive("a", subject=whose)),
    "forget": lambda b, whose: b.store.do(Forget("a", subject=whose)),
}


@pytest.mark.rule("A12")
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("whose", ["somebody else", ""])
async def test_somebody_elses_request_is_as_unknown_as_none(
    backend: Backend, call: str, whose: str
) -> None:
    await brought_to(backend, "reaped" if call == "revive" else "paused")
    before = await backend.store.view("a")
    assert await CALLS[call](backend, whose) == UNKNOWN
    assert await backend.store.view("a") == before
    assert await backend.store.log("a") == chunks(1, 2)
    assert (await CALLS[call](backend, MINE)).outcome is Outcome.OK


@pytest.mark.parametrize("state", STATES)
async def test_what_is_deleted_is_gone_at_once(backend: Backend, state: str) -> None:
    """P3: the request, its log, and its place in the queue, the leases and the index."""
    await brought_to(backend, state)
    heard = Recorder()
    await backend.store.follow("a", heard)
    deleted = await backend.store.do(Forget("a"))
    assert deleted.outcome is Outcome.OK
    ended = Status.DONE if state == "done" else Status.CANCELLED
    assert deleted.status is ended
    assert await backend.store.view("a") is None
    assert await backend.store.body("a") is None
    assert await backend.store.read("a", after=0) == []
    assert await backend.store.do(Waiting()) == []
    assert await backend.store.live() == []
    assert await backend.store.queue_depth() == 0
    backend.pass_time(LEASE_MS)
    assert await backend.store.do(Claim(partition_of("a"), "g2", lease_ms=LEASE_MS)) is None
    await heard.until(lambda messages: messages[-1:] == [StateMessage(ended, "ended")])
    assert await backend.store.do(Forget("a")) == UNKNOWN


@pytest.mark.parametrize("reopen_tokens", [0, 4])
async def test_the_owner_of_a_deleted_request_is_told_and_can_write_no_more(
    backend: Backend, reopen_tokens: int
) -> None:
    """P2, P14"""
    owner = Recorder()
    await backend.store.subscribe("a", owner)
    claimed = await backend.owned("a")
    await backend.append(claimed, *chunks(1, 2), reopen_tokens=reopen_tokens)
    await backend.store.do(Forget("a"))
    assert await owner.first(1) == [
        News(Position(Outcome.FENCED, Status.CANCELLED, 3, 0, 0), claimed.view.epoch)
    ]
    assert await backend.append(claimed, chunk(3)) == UNKNOWN
    assert await backend.finish(claimed, 3) == UNKNOWN
    lease = ("a", claimed.view.epoch, claimed.view.log_id)
    renewed = await backend.store.do(
        Renew(partition_of("a"), "g1", leases=[lease], lease_ms=LEASE_MS)
    )
    assert renewed == [UNKNOWN]


@pytest.mark.rule("P3.5")
@pytest.mark.parametrize("state", ["generating", "done"])
async def test_nobody_gives_a_deleted_request_back(backend: Backend, state: str) -> None:
    """P3: also when the store was restarted before the owner heard of it."""
    claimed = await backend.owned("a")
    await backend.append(claimed, *chunks(1, 2))
    if state == "done":
        await backend.finish(claimed, 3)
    backend.pass_time(1)
    await backend.store.do(Forget("a"))
    await lost_data(backend)

    async def give_back() -> Position:
        view, log = claimed.view, chunks(1, 2)
        return await backend.store.do(Reinstate(view, claimed.body, log, lease_ms=LEASE_MS))

    assert await give_back() == UNKNOWN
    backend.pass_time(DELETED_MS - 1)
    assert await give_back() == UNKNOWN
    assert await backend.store.view("a") is None
    backend.pass_time(1)
    assert (await give_back()).outcome is Outcome.OK


async def test_a_post_that_was_long_on_its_way_brings_nothing_back(backend: Backend) -> None:
    await brought_to(backend, "done")
    await backend.store.do(Forget("a"))
    refused = await backend.open("a")
    assert (refused.outcome, refused.created, refused.view) == (Outcome.UNKNOWN, False, None)
    backend.pass_time(DELETED_MS - 1)
    assert (await backend.open("a")).outcome is Outcome.UNKNOWN
    backend.pass_time(1)
    assert (await backend.open("a")).created
    assert await backend.store.log("a") == []
