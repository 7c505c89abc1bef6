"""P7: a request that its readers left before there was any text waits for one."""

from dataclasses import replace
from typing import Literal

import pytest

from lore.protocol.commands import Cancel, Readers, Reap, Revive
from lore.protocol.lifecycle import Status
from lore.protocol.messages import News, StateMessage
from lore.store.base import Outcome, View
from lore.store.types import Open
from tests.store.backends import LEASE_MS, RETENTION_MS, Backend, Recorder, chunks, new


async def view_of(backend: Backend) -> View:
    view = await backend.store.view("a")
    assert view is not None
    return view


@pytest.mark.rule("P7.3")
async def test_readers_that_leave_before_the_text_pause_it_and_one_that_comes_wakes_it(
    backend: Backend,
) -> None:
    await backend.open()
    reader, owner = Recorder(), Recorder()
    await backend.store.follow("a", reader)
    claimed = await backend.claim()
    await backend.store.subscribe("a", owner)
    backend.clock.now_ms += 5
    said = [(True, Status.PAUSED), (True, Status.PAUSED), (False, Status.GENERATING)]
    for unread, status in said:
        position = await backend.store.do(Readers("a", "left" if unread else "back"))
        assert (position.outcome, position.status) == (Outcome.OK, status)
    assert (await view_of(backend)).progress_ms == backend.clock.now_ms
    assert (await reader.first(3))[1:] == [
        StateMessage(Status.PAUSED, "paused"),
        StateMessage(Status.GENERATING, "resumed"),
    ]
    told: list[News] = await owner.first(2)
    assert [(news.position.status, news.epoch) for news in told] == [
        (Status.PAUSED, claimed.view.epoch),
        (Status.GENERATING, claimed.view.epoch),
    ]


@pytest.mark.rule("P7.3")
async def test_what_is_claimed_unread_waits_and_is_no_try(backend: Backend) -> None:
    await backend.open()
    await backend.store.do(Readers("a", "left"))
    assert (await view_of(backend)).status is Status.QUEUED
    claimed = await backend.claim()
    assert (claimed.view.status, claimed.view.tries) == (Status.PAUSED, 0)
    backend.clock.now_ms += LEASE_MS
    again = await backend.claim(owner="g2")
    assert (again.view.status, again.view.tries) == (Status.PAUSED, 0)
    await backend.store.do(Readers("a", "back"))
    assert (await view_of(backend)).status is Status.GENERATING


@pytest.mark.rule("P7.8")
async def test_text_ends_the_waiting(backend: Backend) -> None:
    """A step was under way when the readers left. From there on the window rules."""
    claimed = await backend.owned()
    await backend.store.do(Readers("a", "left"))
    assert (await backend.append(claimed, *chunks(1, 1))).status is Status.GENERATING
    await backend.store.do(Readers("a", "back"))
    assert (await backend.store.do(Readers("a", "left"))).status is Status.GENERATING


@pytest.mark.rule("P7.7")
async def test_an_answer_that_nobody_needs_to_read_does_not_wait(backend: Backend) -> None:
    """P8: ack kind ``none``"""
    asked = replace(new("a"), ack="none", window=0)
    await backend.store.do(Open(asked, queue_limit=1))
    await backend.store.do(Readers("a", "left"))
    assert (await backend.claim()).view.status is Status.GENERATING
    assert (await backend.store.do(Readers("a", "left"))).status is Status.GENERATING


@pytest.mark.rule("P7.4")
async def test_the_sweep_takes_it_as_any_idle_request_and_a_revive_is_read(
    backend: Backend,
) -> None:
    await backend.owned()
    await backend.store.do(Readers("a", "left"))
    reap = Reap("a", 1_000, RETENTION_MS)
    assert (await backend.store.do(reap)).outcome is Outcome.REFUSED
    backend.clock.now_ms += 1_000
    assert (await backend.store.do(reap)).status is Status.REAPED
    assert (await backend.store.do(Readers("a", "back"))).status is Status.REAPED
    await backend.store.do(Revive("a"))
    assert (await backend.claim()).view.status is Status.GENERATING


@pytest.mark.parametrize("here", ["left", "back"])
async def test_one_that_is_not_there_or_has_ended_is_left_alone(
    backend: Backend, here: Literal["left", "back"]
) -> None:
    assert (await backend.store.do(Readers("a", here))).outcome is Outcome.UNKNOWN
    await backend.open()
    await backend.store.do(Cancel("a", RETENTION_MS))
    assert (await backend.store.do(Readers("a", here))).status is Status.CANCELLED
