"""Which owners are lost: what only several looks at requests and pods can show.

An owner is a process. It is dead once a container with its name has ended. When it is first seen,
it is also bound to its pod. Once that pod is gone or over, the process is dead, whatever runs under
the pod's name later. An owner that was not bound in time is dead, too, if its name belongs to a pod
that existed and is gone. Answers of the API server may be older than a claim, but none of these
facts can be true of an owner that lives. Nothing is known about other owners: somebody may run a
generator outside the cluster, or the policy may select the wrong pods. Then their leases alone
decide.

A pod that is not ready may only wait for the store. So it counts as lost only if its owner has also
let its leases stand still while others renewed theirs; a living owner renews four times in each
lease. No two machines' clocks are compared.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from lore.store.base import View
from lore_operator.pods import Pod, hostname_of

NO_POD = ""
REMEMBER_MS = 15 * 60_000
"""How long the name of a pod that is gone is remembered."""
PEAK_MS = 60_000
"""A pod counts as busy as at its peak in this time, so that its cost is rarely written."""


@dataclass(frozen=True, slots=True)
class OwnerProcess:
    """What is known about the process of an owner."""

    there: bool
    ready: bool
    silent_ms: int
    """How long none of its leases has changed, up to the last change of anybody's lease."""


@dataclass(frozen=True, slots=True)
class Observed:
    views: Collection[View]
    pods: Collection[Pod] = ()
    owners: dict[str, OwnerProcess] = field(default_factory=dict[str, OwnerProcess])
    """The owners of which something is known."""
    busy: dict[str, int] = field(default_factory=dict[str, int])
    """Live requests by pod uid, the peak of the last minute."""


class Fleet:
    def __init__(self) -> None:
        self._bound: dict[str, str] = {}  # owner -> uid of its pod
        self._known: dict[str, int] = {}  # hostname -> when it was last seen
        self._leases: dict[str, tuple[int, int]] = {}  # owner -> (newest lease, since when)
        self._peaks: dict[str, tuple[int, int]] = {}  # pod uid -> (requests, when)

    def look(self, views: Collection[View], pods: Collection[Pod], now_ms: int) -> Observed:
        """``pods`` must have been listed after ``views`` were read: then an owner without a pod in
        the list is gone, and not merely new.
        """
        owners = {view.owner for view in views} - {""}
        self._remember(owners, views, pods, now_ms)
        return Observed(views, pods, self._judge(owners, pods), self._busy(views, pods, now_ms))

    def blink(self) -> None:
        """The store or the pods could not be read, so no owner counts as silent up to now."""
        self._leases.clear()

    def _remember(
        self, owners: set[str], views: Iterable[View], pods: Iterable[Pod], now_ms: int
    ) -> None:
        self._known |= {pod.hostname: now_ms for pod in pods}
        self._known = {k: ms for k, ms in self._known.items() if now_ms - ms < REMEMBER_MS}
        there = {pod.hostname: pod.uid for pod in pods}
        for owner in owners - self._bound.keys():
            if (hostname := hostname_of(owner, there)) is not None:
                self._bound[owner] = there[hostname]
        ended = frozenset[str]().union(*(pod.ended for pod in pods))
        self._bound |= dict.fromkeys(owners & ended, NO_POD)
        self._bound = {owner: self._bound[owner] for owner in owners & self._bound.keys()}
        newest = dict.fromkeys(owners, 0)
        for view in views:
            if view.owner:
                newest[view.owner] = max(newest[view.owner], view.lease_until_ms)
        self._leases = {
            owner: before
            if (before := self._leases.get(owner)) and before[0] == until_ms
            else (until_ms, now_ms)
            for owner, until_ms in newest.items()
        }

    def _judge(self, owners: set[str], pods: Iterable[Pod]) -> dict[str, OwnerProcess]:
        by_uid = {pod.uid: pod for pod in pods if not pod.over}
        hostnames = {pod.hostname for pod in pods}
        moved_ms = max((since_ms for _, since_ms in self._leases.values()), default=0)
        judged: dict[str, OwnerProcess] = {}
        for owner in owners:
            silent_ms = moved_ms - self._leases[owner][1]
            if owner in self._bound:
                pod = by_uid.get(self._bound[owner])
                judged[owner] = OwnerProcess(
                    pod is not None, pod is not None and pod.ready, silent_ms
                )
            elif hostname_of(owner, self._known.keys() - hostnames):
                judged[owner] = OwnerProcess(there=False, ready=False, silent_ms=silent_ms)
        return judged

    def _busy(self, views: Iterable[View], pods: Iterable[Pod], now_ms: int) -> dict[str, int]:
        uids = {pod.hostname: pod.uid for pod in pods}
        live = dict.fromkeys(uids.values(), 0)
        for view in views:
            hostname = hostname_of(view.owner, uids)
            if hostname is not None:
                live[uids[hostname]] += 1
        peaks = self._peaks
        self._peaks = {}
        for uid, requests in live.items():
            peak, since_ms = peaks.get(uid, (0, 0))
            keep = requests < peak and now_ms - since_ms < PEAK_MS
            self._peaks[uid] = (peak, since_ms) if keep else (requests, now_ms)
        return {uid: peak for uid, (peak, _) in self._peaks.items()}
