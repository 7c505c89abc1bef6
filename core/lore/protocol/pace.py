"""Pace: who decodes while requests wait for a slot (protocol P20).

Policy. A reader takes a few tokens a second, an engine makes many more. While nobody waits, each
request is granted its window's whole credit (P5), and this module changes nothing. While requests
wait, in the store's queue or for a slot here, credit is granted in small steps, so that little is
committed, and slots go where a token is needed next:

1. who is about to run dry: its reader, at reading speed, has no more than a step left;
2. who has nothing yet, in order, and in turn with them machines (``pace`` None), which can use all
   they get; behind them those in the store's queue, for whom slots are kept;
3. the rest, the least ahead first, up to ``lead + pace x time since its first token``: more than
   that nobody can have read.

Who in the second group has waited for as long as a step lasts a reader is in the first.

A request that has used its step and is in the third group is *parked for pace*. It takes no slot,
so the generator claims who waits. It goes on by the clock, when its reader is about to run dry, or
as soon as a slot is free and nobody waits for it.

Two speeds. ``tokens_per_s`` is the most that a reader takes: it bounds what is made ahead of them.
``reading_ratio`` of it is what a reader needs: who has that is not about to run dry. Between them
lies what an overloaded engine gives up first.

Grants are absolute and only grow (P5.2), so what was granted is never taken back. One step is
granted anew when half of it is left, so that the engine does not wait for this module. At most
``slots`` requests have unused grants, but for those that had them when the waiting began, and those
whose last granted token is under way. An engine plans a batch before this module hears of the one
before, so a slot whose next request were named only then would stand empty for a batch.

The reader's position is counted from the first token. It stands still while the window is closed,
and after a takeover it is what the reader has acknowledged, which the store's view tells (P15).

Drive it (no clock here; ``now`` is in seconds on any steady clock, virtual ones too)::

    pacer = Pacer(PaceConfig(), slots=50)
    pacer.add("a", pace=12.0, credit=32, now=0.0)      # a claimed request, with its window's credit
    pacer.on_waiting(3, now=0.0)                       # three requests wait in the queue
    for key, limit in pacer.take(now=0.0).grants: ...  # pass them to the engine
    pacer.on_tokens("a", 1, now=0.2)                   # generated so far, after each piece
    pacer.on_credit("a", 40, acked_tokens=8, now=0.5)  # after each ack
    pacer.remove("a")                                  # it ended
    if pacer.deadline() <= now: pacer.take(now)        # after events, and when time has passed

``take`` is due when ``deadline`` has passed, which an event may bring about. ``decoding`` requests
take a slot or are to have the next one: ``slots - pacer.decoding`` more may be claimed.
"""

import math
import sys
from collections.abc import Callable
from typing import Generic

from lore.protocol.pace_types import Changes, K, PaceConfig, Request

AT_ONCE = -math.inf


class Pacer(Generic[K]):
    """The requests of one engine. Counts are in tokens, generated in all since the first."""

    def __init__(
        self, config: PaceConfig, slots: float, made: Callable[[K], int] | None = None
    ) -> None:
        """With ``math.inf`` slots nobody ever waits: pace is off. ``made``: how many tokens a
        request has by now. With it, only its first token and those that use up its credit must be
        told while slots are not shared.
        """
        self._made = made
        self._config = config
        self._slots = slots
        self._requests: dict[K, Request[K]] = {}
        self._wanting: dict[K, Request[K]] = {}
        """Those whose window has credit, in order."""
        self._open: dict[K, Request[K]] = {}
        """Of those, the ones that may lack a grant of their whole credit."""
        self._waiting = 0
        self._waited_s = -math.inf
        """When somebody last waited."""
        self.parked = 0
        """How many are parked for pace."""
        self.shares = False
        """Whether credit comes in steps."""
        self._deadline = math.inf

    def __contains__(self, key: K) -> bool:
        return key in self._requests

    @property
    def decoding(self) -> int:
        """How many requests take a slot, or are to have the next one."""
        return len(self._wanting) - self.parked

    def is_parked(self, key: K) -> bool:
        """Whether it is parked for pace."""
        request = self._requests.get(key)
        return request is not None and request.parked

    def is_decoding(self, key: K) -> bool:
        """Whether it takes a slot, or is to have the next one."""
        request = self._wanting.get(key)
        return request is not None and not request.parked

    def ahead(self, key: K, now: float) -> float:
        """How many tokens it has that its reader, at reading speed, has not read."""
        request = self._requests[key]
        return 0.0 if request.read_s is None else request.generated - request.read(now)

    # events

    def add(
        self,
        key: K,
        *,
        pace: float | None,
        credit: int | None,
        now: float,
        generated_tokens: int = 0,
        acked_tokens: int | None = None,
    ) -> None:
        """Take a request. ``pace``: its reader's tokens a second, None for a machine. ``credit``:
        the window's limit, None for none. One with text was begun elsewhere: its reader is taken
        to be where it has acknowledged, or where nobody does so, at the end of the text.
        """
        self.remove(key)
        needs_per_s = (pace or self._config.tokens_per_s) * self._config.reading_ratio
        needs_per_s = max(needs_per_s, sys.float_info.min)  # of the least paces, it would be 0
        request = Request(
            *(key, pace, _number(credit), generated_tokens, generated_tokens, needs_per_s, now)
        )
        self._requests[key] = request
        if generated_tokens:
            request.read_s = now
            request.read_tokens = generated_tokens if acked_tokens is None else acked_tokens
        self._note(request)
        self._deadline = AT_ONCE

    def remove(self, key: K) -> None:
        """It has ended, is handed back, or waits for a reader before its first text."""
        request = self._requests.pop(key, None)
        if request is not None:
            self.parked -= request.parked
            self._wanting.pop(key, None)
            self._open.pop(key, None)
            if self.shares:
                self._deadline = AT_ONCE

    def on_credit(
        self, key: K, credit: int | None, *, acked_tokens: int | None, now: float
    ) -> None:
        """The window moved. ``acked_tokens``: None where nobody acknowledges (P8.4)."""
        request, limit = self._requests[key], _number(credit)
        if limit <= request.credit:
            return
        opens = not request.wants
        if opens or not self.shares or request.granted == request.credit:
            self._deadline = AT_ONCE
        request.credit = limit
        if opens and request.wants and acked_tokens is not None:
            request.read_no_further_than(acked_tokens, now)  # it may have been away
        self._note(request)

    def on_tokens(self, key: K, generated_tokens: int, now: float) -> None:
        request = self._requests[key]
        if generated_tokens == request.generated:
            return
        if not self.shares and generated_tokens < request.credit:
            request.generated = generated_tokens  # each token's way: the rest is made up for later
            request.read_s = now if request.read_s is None else request.read_s
            return
        # Who waited for this much longer than a step is not served before all others ever after.
        request.read_no_further_than(request.generated + self._config.step_tokens, now)
        request.generated = generated_tokens
        if self.shares and self._is_used_up(request):
            self._deadline = AT_ONCE
        if request.read_s is None and generated_tokens:
            request.read_s = now
        self._note(request)

    def on_waiting(self, waiting: int) -> None:
        """How many requests in the store's queue this generator would claim if it had room."""
        if waiting != self._waiting:
            self._waiting, self._deadline = waiting, AT_ONCE

    def _note(self, request: Request[K]) -> None:
        """Keep what depends on its tokens and its credit."""
        config = self._config
        if request.wants:
            self._wanting[request.key] = request
            if request.granted < request.credit:
                self._open[request.key] = request
        else:
            self._wanting.pop(request.key, None)
            self._open.pop(request.key, None)
            self.parked -= request.parked
            request.parked = False
        if request.pace is None or request.read_s is None:
            request.dry_s = request.turn_s + config.step_tokens / request.needs_per_s
            return
        ahead = request.generated - request.read_tokens
        request.dry_s = request.read_s + (ahead - config.step_tokens) / request.needs_per_s
        lead_left = config.lead_tokens - config.step_tokens - ahead
        request.due_s = request.read_s - lead_left / request.pace

    # decisions

    def deadline(self) -> float:
        """When ``take`` has something to do; in the past when it has now."""
        return self._deadline

    @property
    def _calm_s(self) -> float:
        """From when on pace does not bind, if nobody waits."""
        return self._waited_s + self._config.calm_s

    def take(self, now: float) -> Changes[K]:
        """Decide anew. Call it once the deadline has passed."""
        changes = Changes[K]()
        is_crowded = self._waiting + len(self._wanting) > self._slots
        shared, self.shares = self.shares, is_crowded or now < self._calm_s
        if self.shares and not shared:
            for request in self._wanting.values():
                if self._made is not None:
                    request.generated = self._made(request.key)
                request.read_no_further_than(request.generated + self._config.step_tokens, now)
            for request in [*self._wanting.values()]:
                self._note(request)
        if self.shares:
            self._share(changes, now)
        else:
            self._deadline = math.inf
            for request in self._open.values():
                self._resume(request, changes)
                self._grant(request, request.credit, changes, now)
            self._open.clear()
        return changes

    def _share(self, changes: Changes[K], now: float) -> None:
        """Grant steps to those who need them first."""
        first, rest = list[Request[K]](), list[Request[K]]()
        for request in self._wanting.values():
            (first if self._is_first(request, now) else rest).append(request)
        within = [request for request in rest if request.due_s <= now]
        if self._waiting + len(first) + len(within) > self._slots:
            self._waited_s = now
        calm_s = self._calm_s
        first.sort(key=lambda request: _turn(request, now))
        rest = sorted(within if now < calm_s else rest, key=lambda request: request.dry_s)
        kept = int(self._slots) - self._waiting
        rest = rest[: max(0, kept - len(first))]
        held = sum(request.holds for request in self._wanting.values())
        leaving = sum(request.is_leaving for request in self._wanting.values())
        held += max(0, leaving - int(self._slots))
        for i, request in enumerate((*first, *rest)):
            if not request.holds:
                if request.is_closing:
                    continue
                if held >= (self._slots if i < len(first) else kept):
                    break  # the next slot that is free is its own, so nobody behind it goes on
                held += 1
            elif not self._is_used_up(request):
                continue
            limit = min(request.credit, request.generated + self._config.step_tokens)
            self._grant(request, limit, changes, now)
        self._park(changes, now, calm_s)

    def _is_used_up(self, request: Request[K]) -> bool:
        """Whether to extend its grant, before the engine has to wait for that."""
        return request.granted - request.generated <= self._config.step_tokens // 2

    def _is_first(self, request: Request[K], now: float) -> bool:
        """Whether it comes before those in the store's queue."""
        return request.pace is None or request.read_s is None or request.dry_s <= now

    def _park(self, changes: Changes[K], now: float, calm_s: float) -> None:
        """Note who is parked for pace, and when that changes by itself."""
        deadline = calm_s if now < calm_s else math.inf
        for request in self._wanting.values():
            if request.holds or request.is_closing or self._is_first(request, now):
                self._resume(request, changes)
                continue
            if not request.parked:
                request.parked = True
                self.parked += 1
                changes.parked.append(request.key)
            deadline = min(deadline, request.dry_s)
            if request.due_s > now:
                deadline = min(deadline, request.due_s)
        self._deadline = deadline

    def _resume(self, request: Request[K], changes: Changes[K]) -> None:
        if request.parked:
            request.parked = False
            self.parked -= 1
            changes.resumed.append(request.key)

    def _grant(self, request: Request[K], limit: float, changes: Changes[K], now: float) -> None:
        if limit <= request.granted:
            return
        request.granted = limit
        if request.pace is None:
            request.turn_s = now
            self._note(request)
        changes.grants.append((request.key, None if limit == math.inf else int(limit)))


def _turn(request: Request[K], now: float) -> tuple[bool, float]:
    """Its place among the first: who is about to run dry, then who came or was served first."""
    is_dry = request.dry_s <= now
    return not is_dry, request.dry_s if is_dry else request.turn_s


def _number(credit: int | None) -> float:
    return math.inf if credit is None else credit
