"""Finds requests without progress, and reaps stalled windows (P16).

A window is stalled when its reader has let it stand for the policy's time. It is reaped: the text
stays, and the reader may revive it. All other findings are only reported. A request whose lease
lapsed, or that waits, goes on as soon as a generator has room. To fail it would break P17.1 only to
make a list shorter; what it lacks is generators. A request without a chunk for long has a generator
whose watchdog is late: its lease decides, as always.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from lore.protocol.commands import Reap
from lore.protocol.lifecycle import OWNED, Status
from lore.store.base import Outcome, Store, View

MOST = 10_000
"""How many requests one sweep looks at, longest without progress first."""


class Finding(StrEnum):
    STALLED = "stalled"  # its window is closed and its reader silent: it is to be reaped
    ORPHANED = "orphaned"  # its lease lapsed, and nobody took it over
    STUCK = "stuck"  # its owner renews the lease but produces nothing
    WAITING = "waiting"  # nobody has taken it from the queue


@dataclass(frozen=True, slots=True)
class Policy:
    """How long each state may last before it is a finding, in seconds."""

    stall_s: float = 600.0
    orphan_s: float = 60.0
    stuck_s: float = 600.0
    wait_s: float = 600.0


@dataclass(frozen=True, slots=True)
class SweepAction:
    """``STALLED``: reap it, if it still has made no progress. Otherwise: report it."""

    view: View
    finding: Finding
    since_ms: int
    """How long it has been so."""


def plan(views: Iterable[View], policy: Policy, now_ms: int) -> list[SweepAction]:
    """The actions for these requests, in their order; none for requests that make progress."""
    actions: list[SweepAction] = []
    for view in views:
        idle_ms = now_ms - view.progress_ms
        lapsed_ms = now_ms - view.lease_until_ms
        if view.status is Status.PAUSED and idle_ms >= policy.stall_s * 1000:
            actions.append(SweepAction(view, Finding.STALLED, idle_ms))
        elif view.status in OWNED and lapsed_ms >= policy.orphan_s * 1000:
            actions.append(SweepAction(view, Finding.ORPHANED, lapsed_ms))
        elif view.status is Status.GENERATING and idle_ms >= policy.stuck_s * 1000:
            actions.append(SweepAction(view, Finding.STUCK, idle_ms))
        elif view.status is Status.QUEUED and idle_ms >= policy.wait_s * 1000:
            actions.append(SweepAction(view, Finding.WAITING, idle_ms))
    return actions


async def sweep(
    store: Store, policy: Policy, *, now_ms: int, retention_ms: int, dry_run: bool = False
) -> list[SweepAction]:
    """Look once, and reap stalled requests. Returns the findings that still held at the end.

    ``now_ms`` only selects. The store judges each reap by its own clock (P16.4), so a wrong
    ``now_ms`` takes nothing from anyone. Raises StoreUnavailable.
    """
    actions = plan(await store.live(limit=MOST), policy, now_ms)
    if dry_run:
        return actions
    idle_ms = round(policy.stall_s * 1000)
    found: list[SweepAction] = []
    for action in actions:
        if action.finding is Finding.STALLED:
            position = await store.do(
                Reap(action.view.request_id, idle_ms=idle_ms, retention_ms=retention_ms)
            )
            if position.outcome is not Outcome.OK:
                continue
        found.append(action)
    return found
