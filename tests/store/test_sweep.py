"""A sweep over a store (P16, P17)."""

import pytest

from lore.protocol.commands import Ack, Revive
from lore.protocol.lifecycle import Status
from lore.sweep import Finding, Policy, SweepAction, sweep
from tests.store.backends import RETENTION_MS, Backend, chunks

POLICY = Policy(stall_s=60, orphan_s=60, stuck_s=600, wait_s=600)


async def swept(backend: Backend, *, dry_run: bool = False, fast_ms: int = 0) -> list[SweepAction]:
    return await sweep(
        backend.store,
        POLICY,
        now_ms=backend.clock.now_ms + fast_ms,
        retention_ms=RETENTION_MS,
        dry_run=dry_run,
    )


async def paused(backend: Backend, request_id: str) -> None:
    claimed = await backend.owned(request_id)
    await backend.append(claimed, *chunks(1, 3), reopen_tokens=6, lease_ms=3_600_000)


async def statuses(backend: Backend, *request_ids: str) -> list[Status]:
    views = [await backend.store.view(request_id) for request_id in request_ids]
    return [view.status for view in views if view]


@pytest.mark.rule("P16.1")
async def test_a_stalled_window_is_reaped_and_may_be_revived(backend: Backend) -> None:
    await paused(backend, "silent")
    await paused(backend, "reading")
    backend.pass_time(59_999)
    assert await swept(backend) == []
    await backend.store.do(Ack("reading", 1))
    backend.pass_time(1)
    found = await swept(backend)
    assert [(action.view.request_id, action.finding) for action in found] == [("silent", "stalled")]
    assert await statuses(backend, "silent", "reading") == [Status.REAPED, Status.PAUSED]
    assert await backend.store.log("silent") == chunks(1, 3)
    await backend.store.do(Revive("silent"))
    assert await statuses(backend, "silent") == [Status.QUEUED]


async def test_a_dry_run_touches_nothing(backend: Backend) -> None:
    await paused(backend, "a")
    backend.pass_time(60_000)
    assert [action.finding for action in await swept(backend, dry_run=True)] == [Finding.STALLED]
    assert await statuses(backend, "a") == [Status.PAUSED]


@pytest.mark.rule("P16.4")
async def test_a_clock_that_is_fast_here_takes_nothing(backend: Backend) -> None:
    """P16: the store judges by its own clock."""
    await paused(backend, "a")
    backend.pass_time(1_000)
    assert await swept(backend, fast_ms=300_000) == []
    assert await statuses(backend, "a") == [Status.PAUSED]


@pytest.mark.rule("P16.3")
async def test_orphans_and_long_waits_are_told_and_left_for_a_generator(backend: Backend) -> None:
    """P17: they go on as soon as there is room."""
    await backend.owned("orphan")
    await backend.open("waiting")
    backend.pass_time(600_000)
    found = {action.view.request_id: action.finding for action in await swept(backend)}
    assert found == {"orphan": Finding.ORPHANED, "waiting": Finding.WAITING}
    assert await statuses(backend, "orphan", "waiting") == [Status.GENERATING, Status.QUEUED]
