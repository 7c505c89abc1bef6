"""Which requests a sweep finds, and what it does about them (P16, P17)."""

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lore.protocol.lifecycle import LIVE, OWNED, Event, Status, transition
from lore.store.base import View
from lore.sweep import Finding, Policy, plan

NOW_MS = 10_000_000
POLICY = Policy(stall_s=10, orphan_s=20, stuck_s=30, wait_s=40)
REQUEST = View(
    request_id="a",
    subject="s",
    fingerprint="f",
    ack="client",
    status=Status.PAUSED,
    owner="g1",
    epoch=1,
    log_id="l",
    forks="",
    next_seq=5,
    generated_tokens=4,
    acked_seq=0,
    acked_tokens=0,
    window=4,
    prompt_tokens=0,
    finish_reason="",
    error="",
    created_ms=1,
    started_ms=1,
    progress_ms=NOW_MS,
    finished_ms=0,
    lease_until_ms=NOW_MS + 5_000,
)


@st.composite
def requests(draw: st.DrawFn) -> View:
    status = draw(st.sampled_from(sorted(LIVE)))
    lease_until_ms = NOW_MS + draw(st.integers(-60_000, 10_000))
    return replace(
        REQUEST,
        status=status,
        progress_ms=NOW_MS - draw(st.integers(-1_000, 60_000)),
        lease_until_ms=lease_until_ms if status in OWNED else 0,
    )


def idle(status: Status, idle_s: float, lapsed_s: float = -5) -> View:
    lease_until_ms = NOW_MS - round(lapsed_s * 1000) if status in OWNED else 0
    progress_ms = NOW_MS - round(idle_s * 1000)
    return replace(REQUEST, status=status, progress_ms=progress_ms, lease_until_ms=lease_until_ms)


@pytest.mark.rule("P16.3")
@given(requests())
@example(idle(Status.PAUSED, 10))
def test_only_a_closed_window_that_stood_long_enough_is_reaped(view: View) -> None:
    stalled = [action for action in plan([view], POLICY, NOW_MS) if action.finding == "stalled"]
    stands = NOW_MS - view.progress_ms >= 10_000
    assert bool(stalled) == (view.status is Status.PAUSED and stands)
    for action in stalled:
        assert transition(action.view.status, Event.REAP) is Status.REAPED


@given(st.lists(requests(), max_size=8))
def test_each_request_is_found_once_at_most_and_in_order(views: list[View]) -> None:
    found = [action.view for action in plan(views, POLICY, NOW_MS)]
    rest = iter(views)
    assert all(any(view is other for other in rest) for view in found)


@given(requests(), st.integers(0, 100_000))
def test_what_is_found_stays_found_while_nothing_moves(view: View, later_ms: int) -> None:
    """P17: no request slips out of sight by waiting longer."""
    if plan([view], POLICY, NOW_MS):
        assert plan([view], POLICY, NOW_MS + later_ms)


@given(requests())
def test_every_live_request_is_found_at_last(view: View) -> None:
    """P17"""
    assert plan([view], POLICY, NOW_MS + 200_000)


def test_each_state_has_its_own_patience() -> None:
    cases = [
        (idle(Status.PAUSED, 9), None),
        (idle(Status.PAUSED, 10), Finding.STALLED),
        (idle(Status.PAUSED, 9, lapsed_s=20), Finding.ORPHANED),
        (idle(Status.PAUSED, 10, lapsed_s=20), Finding.STALLED),
        (idle(Status.GENERATING, 29), None),
        (idle(Status.GENERATING, 30), Finding.STUCK),
        (idle(Status.GENERATING, 29, lapsed_s=19), None),
        (idle(Status.GENERATING, 29, lapsed_s=20), Finding.ORPHANED),
        (idle(Status.QUEUED, 39), None),
        (idle(Status.QUEUED, 40), Finding.WAITING),
    ]
    for view, expected in cases:
        assert [action.finding for action in plan([view], POLICY, NOW_MS)] == (
            [expected] if expected else []
        )
