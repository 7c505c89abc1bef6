"""Kubernetes Events about the policy: few, and each about something new.

Lasting conditions are reported when they begin, and now and then while they last. Frequent actions
are collected for a minute.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from lore.sweep import Finding
from lore_operator.plan import Loss, Tell

STORE_FULL = (
    "The store's memory is full: answers that were read are given up, the oldest first, and new "
    "requests are refused until there is room"
)
AGAIN_MS = 30 * 60_000
GATHER_MS = 60_000


@dataclass(frozen=True, slots=True)
class PolicyEvent:
    kind: Literal["Normal", "Warning"]
    reason: str
    message: str


_FOUND = {
    Finding.STALLED: (
        "Normal",
        "Stalled",
        "{n} stalled for up to {s} s and kept parked (stall.action is Park)",
    ),
    Finding.ORPHANED: (
        "Warning",
        "Orphaned",
        "{n} without a generator for up to {s} s: is there one that is ready and has room?",
    ),
    Finding.STUCK: (
        "Warning",
        "Stuck",
        "{n} without a new word for up to {s} s although the generator holds on to it: see its log",
    ),
    Finding.WAITING: (
        "Warning",
        "Waiting",
        "{n} waiting in the queue for up to {s} s: more generators are needed",
    ),
}
_LOST = {
    Loss.GONE: "is gone",
    Loss.SILENT: "is not ready and has stopped renewing its leases",
}


class PolicyEvents:
    """The events since the last call."""

    def __init__(self) -> None:
        self._told: dict[str, int] = {}  # lasting condition -> when it was last reported
        self._reaped = 0
        self._reaped_told_ms = -GATHER_MS
        self._released: Counter[tuple[str, Loss]] = Counter()

    def reaped(self) -> None:
        self._reaped += 1

    def released(self, owner: str, loss: Loss) -> None:
        self._released[owner, loss] += 1

    def take(
        self,
        found: Iterable[Tell],
        store_away: str,
        denied: str,
        now_ms: int,
        *,
        store_full: bool = False,
        failing: str = "",
    ) -> list[PolicyEvent]:
        """``failing`` is why no generator is ready, if that is known."""
        lasting = [_event_of(tell) for tell in found]
        if store_away:
            lasting.append(
                PolicyEvent("Warning", "StoreUnreachable", f"{store_away}; nothing is swept")
            )
        if store_full:
            lasting.append(PolicyEvent("Warning", "StoreFull", STORE_FULL))
        if failing:
            lasting.append(
                PolicyEvent("Warning", "NoGenerator", f"No generator is ready: {failing}")
            )
        if denied:
            lasting.append(PolicyEvent("Warning", "Forbidden", denied))
        events = [*self._take_released(), *self._take_reaped(now_ms)]
        if "StoreUnreachable" in self._told and not store_away:
            events.append(PolicyEvent("Normal", "StoreReachable", "The store answers again"))
        if "StoreFull" in self._told and not store_full and not store_away:
            events.append(
                PolicyEvent("Normal", "StoreHasRoom", "The store takes new requests again")
            )
        before, self._told = self._told, {}
        for event in lasting:
            told_ms = before.get(event.reason)
            due = told_ms is None or now_ms - told_ms >= AGAIN_MS
            self._told[event.reason] = now_ms if told_ms is None or due else told_ms
            if due:
                events.append(event)
        return events

    def _take_released(self) -> list[PolicyEvent]:
        released, self._released = self._released, Counter()
        return [
            PolicyEvent(
                "Normal",
                "Released",
                f"Generator {owner} {_LOST[loss]}: {_requests(n)} went back to the queue",
            )
            for (owner, loss), n in released.items()
        ]

    def _take_reaped(self, now_ms: int) -> list[PolicyEvent]:
        if not self._reaped or now_ms - self._reaped_told_ms < GATHER_MS:
            return []
        n, self._reaped, self._reaped_told_ms = self._reaped, 0, now_ms
        return [
            PolicyEvent("Normal", "Reaped", f"Reaped {_requests(n)} whose reader has gone silent")
        ]


def _event_of(tell: Tell) -> PolicyEvent:
    kind, reason, message = _FOUND[tell.finding]
    text = message.format(n=_requests(tell.requests), s=round(tell.longest_ms / 1000))
    return PolicyEvent("Warning" if kind == "Warning" else "Normal", reason, text)


def _requests(n: int) -> str:
    return "1 request" if n == 1 else f"{n} requests"
