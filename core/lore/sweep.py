"""Finds requests without progress, and reaps stalled windows (P16).

A window is stalled when its reader has let it stand for the policy's time (P16): it is
reaped, which keeps the text, and the reader may revive it. The rest is told and not
touched. A request whose lease lapsed, or that waits, goes on as soon as a generator has
room, so that failing it would break P17's promise only to make a list shorter; what it
lacks is generators. One that is generated without a chunk for long has a generator whose
watchdog is late: its lease decides, as always.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from lore.protocol.commands import Reap
from lore.protocol.lifecycle import OWNED, Status
from lore.store.base import Outcome, Store, View

MOST = 10_000
"""Requests that one sweep looks at, longest without progress first."""


class Finding(StrEnum):
    STALLED = "stalled"  # its window is closed and its reader silent: to be reaped
    ORPHANED = "orphaned"  # its lease lapsed, and nobody took it over
    STUCK = "stuck"  # its owner renews the lease and brings nothing
    WAITING = "waiting"  # nobody has taken it from the queue


@dataclass(frozen=True, slots=True)
class Policy:
    """How long each state may last before it is a finding, in seconds."""

    stall_s: float = 600.0
    orphan_s: float = 60.0
    stuck_s: float = 600.0
    wait_s: float = 600.0


@dataclass(frozen=True, slots=True)
class Action:
    """``STALLED``: reap it, if it has still not moved. Else: tell somebody."""

    view: View
    finding: Finding
    since_ms: int
    """How long it has been so."""


def plan(views: Iterable[View], policy: Policy, now_ms: int) -> list[Action]:
    """What is to be done about these requests, in their order; nothing for those that move."""
    actions: list[Action] = []
    for view in views:
        idle_ms = now_ms - view.progress_ms
        lapsed_ms = now_ms - view.lease_until_ms
        if view.status is Status.PAUSED and idle_ms >= policy.stall_s * 1000:
            actions.append(Action(view, Finding.STALLED, idle_ms))
        elif view.status in OWNED and lapsed_ms >= policy.orphan_s * 1000:
            actions.append(Action(view, Finding.ORPHANED, lapsed_ms))
        elif view.status is Status.GENERATING and idle_ms >= policy.stuck_s * 1000:
            actions.append(Action(view, Finding.STUCK, idle_ms))
        elif view.status is Status.QUEUED and idle_ms >= policy.wait_s * 1000:
            actions.append(Action(view, Finding.WAITING, idle_ms))
    return actions


async def sweep(
    store: Store, policy: Policy, *, now_ms: int, retention_ms: int, dry_run: bool = False
) -> list[Action]:
    """Look once, and reap what is stalled. Returns what was found and was so until the end.

    ``now_ms`` chooses; the store judges each reap by its own clock, so that a wrong one here
    takes nothing from anyone. Raises StoreUnavailable.
    """
    actions = plan(await store.live(limit=MOST), policy, now_ms)
    if dry_run:
        return actions
    idle_ms = round(policy.stall_s * 1000)
    found: list[Action] = []
    for action in actions:
        if action.finding is Finding.STALLED:
            position = await store.do(
                Reap(action.view.request_id, idle_ms=idle_ms, retention_ms=retention_ms)
            )
            if position.outcome is not Outcome.OK:
                continue
        found.append(action)
    return found
