"""The actions of a sweep: a pure function of observation, policy and time.

Every action may be repeated, and may come too late. The store judges each reap and each release
again, and the API server refuses to patch a pod that is another one by now.
"""

from collections import defaultdict
from dataclasses import dataclass
from enum import StrEnum

from lore import sweep
from lore.protocol.lifecycle import OWNED
from lore.store.base import View
from lore.sweep import Finding
from lore_operator.fleet import Observed, OwnerProcess
from lore_operator.pods import Pod
from lore_operator.policy import StreamPolicy


class Loss(StrEnum):
    GONE = "gone"  # its pod, or the container in which it ran, is gone
    SILENT = "silent"  # its pod is not ready, and its leases stand still


@dataclass(frozen=True, slots=True)
class ReapAction:
    view: View


@dataclass(frozen=True, slots=True)
class ReleaseAction:
    """Release a request of a lost owner into the queue."""

    view: View
    loss: Loss


@dataclass(frozen=True, slots=True)
class SetCost:
    pod: Pod
    cost: int


@dataclass(frozen=True, slots=True)
class Tell:
    """Report requests without progress that no action of the operator would help."""

    finding: Finding
    requests: int
    longest_ms: int


Action = ReapAction | ReleaseAction | SetCost | Tell


def plan(observed: Observed, policy: StreamPolicy, now_ms: int) -> list[Action]:
    reaps, found = _find(observed, policy, now_ms)
    reaped = {reap.view.request_id for reap in reaps}
    releases = [
        ReleaseAction(view, loss)
        for view in observed.views
        if view.status in OWNED and view.request_id not in reaped
        if (loss := _loss(observed.owners.get(view.owner), policy)) is not None
    ]
    return [*releases, *reaps, *_costs(observed), *_tell(found, releases)]


def _find(
    observed: Observed, policy: StreamPolicy, now_ms: int
) -> tuple[list[ReapAction], list[sweep.SweepAction]]:
    """The requests to reap, and the other requests without progress."""
    found = sweep.plan(observed.views, policy.findings, now_ms)
    if policy.stall.action == "Park":
        return [], found
    stalled = [one for one in found if one.finding is Finding.STALLED]
    return [ReapAction(one.view) for one in stalled], [one for one in found if one not in stalled]


def _loss(owner: OwnerProcess | None, policy: StreamPolicy) -> Loss | None:
    if owner is None or policy.lease.on_loss == "Wait":
        return None
    if not owner.there:
        return Loss.GONE
    if not owner.ready and owner.silent_ms >= policy.lease.seconds * 1000 / 2:
        return Loss.SILENT
    return None


def deletion_cost(requests: int) -> int:
    """The deletion cost of a pod. It grows with each doubling, so that only large changes are
    written.
    """
    return 10 * requests.bit_length()


def _costs(observed: Observed) -> list[SetCost]:
    """The costs to write. RBAC lets the operator patch any pod of its namespace, so this selects
    its own.
    """
    ours = (pod for pod in observed.pods if pod.generator and not pod.leaving)
    costs = ((pod, deletion_cost(observed.busy.get(pod.uid, 0))) for pod in ours)
    return [SetCost(pod, cost) for pod, cost in costs if cost != (pod.cost or 0)]


def waiting_since_ms(actions: list[Action], now_ms: int) -> int:
    """Since when the oldest request waits that has waited too long for a generator; 0 for none."""
    told = [one for one in actions if isinstance(one, Tell)]
    waits = (Finding.WAITING, Finding.ORPHANED)
    return min((now_ms - one.longest_ms for one in told if one.finding in waits), default=0)


def _tell(found: list[sweep.SweepAction], releases: list[ReleaseAction]) -> list[Tell]:
    helped = {release.view.request_id for release in releases}
    longest: defaultdict[Finding, list[int]] = defaultdict(list)
    for one in found:
        if one.view.request_id not in helped:
            longest[one.finding].append(one.since_ms)
    return [Tell(finding, len(since), max(since)) for finding, since in longest.items()]
