"""What must happen in the end, and how soon: once faults have healed, no request stands still.

A dead owner's lease has to lapse, and after a store's return the grace comes first. Nothing else
is a reason to wait, so a request that its generators leave alone for longer is a violation, as a
lost chunk is. What waits for its reader's acks (P5) waits for them alone.

An owner that lives works on what it owns, and keeps it: it is no reason to wait for its lease.
"""

from collections.abc import Sequence
from typing import Any

from lore.protocol.leases import RENEWALS_PER_LEASE
from lore.protocol.lifecycle import OWNED, Status
from lore.store.base import View
from tests.sim.generator import Generator
from tests.sim.store import StoreNode
from tests.sim.world import CALL_TIMEOUT_S, World

MOVES = (Status.QUEUED, Status.GENERATING)
FORGOTTEN_S = CALL_TIMEOUT_S + 1.0
"""How long a call for a request may be under way, twice as long as it may take unheard."""


class Pace:
    def __init__(self, world: World, store: StoreNode, generators: Sequence[Generator]) -> None:
        self._world = world
        self._store = store
        self._generators = generators
        self._began_s = world.now
        self._still: dict[str, tuple[Any, float]] = {}
        self._orphans: dict[str, tuple[Any, float]] = {}
        self._owners: dict[str, View] = {}

    @property
    def bound_s(self) -> float:
        """The grace and one lease; besides, a call that was lost just before, the poll that
        finds a request, and the step that brings text."""
        options = self._world.options
        besides_s = CALL_TIMEOUT_S + 1.25 * options.poll_s + 2 * options.step_s + 0.5
        return options.grace_s + options.lease_s + besides_s

    def watch(self, requests: set[str]) -> None:
        """Look at all requests. Time counts while all parts are there."""
        now = self._world.now
        parts = (self._store, *self._generators)
        if not all(part.up and part.frozen_until <= now for part in parts):
            self._began_s = now
            self._still.clear()
            self._orphans.clear()
            self._owners.clear()
            return
        for request_id in requests:
            view = self._store.state.view(request_id, now_ms=self._world.now_ms)
            if view is None:
                self._still.pop(request_id, None)
                self._owners.pop(request_id, None)
            else:
                self._watch_pace(view)
                self._watch_owner(view)

    def _watch_pace(self, view: View) -> None:
        if view.status not in MOVES:
            self._still.pop(view.request_id, None)
            return
        place = (view.status, view.epoch, view.log_id, view.next_seq)
        still_s = self._since(self._still, view.request_id, place)
        owner = self._alive(view.owner)
        is_held = owner is not None and owner.holds(view.request_id, view.epoch)
        lease_s = self._world.options.lease_s
        # What a live owner has missed it learns with the next renewal (P6).
        bound_s = self.bound_s - lease_s * (1 - 1 / RENEWALS_PER_LEASE) * is_held
        if still_s > bound_s:
            self._fail("liveness", view, f"stands still for {still_s:.1f} s")

    def _watch_owner(self, view: View) -> None:
        """P15: who owns a request works on it, and who works on it keeps it."""
        is_leased = view.status in OWNED and view.lease_until_ms > self._world.now_ms
        owner = self._alive(view.owner) if is_leased else None
        unheard = (view.request_id, view.epoch) in self._store.unheard
        if owner is None or unheard or owner.works_on(view.request_id, view.epoch):
            self._orphans.pop(view.request_id, None)
        else:
            forgotten_s = self._since(self._orphans, view.request_id, (view.owner, view.epoch))
            if forgotten_s > FORGOTTEN_S:
                self._fail("P15", view, f"is not worked on by its owner for {forgotten_s:.1f} s")
        before = self._owners.get(view.request_id)
        if view.status in OWNED:
            self._owners[view.request_id] = view
        if before is None or before.epoch == view.epoch or view.owner == "":
            return
        loser = self._alive(before.owner)
        settled = self._world.now - self._began_s > self.bound_s
        if settled and loser is not None and loser.holds(view.request_id, before.epoch):
            self._fail("P15", view, f"was taken from {before.owner}, which lives")

    def _alive(self, owner: str) -> Generator | None:
        found = (g for g in self._generators if g.owner == owner and not g.draining)
        return next(found, None)

    def _since(self, seen: dict[str, tuple[Any, float]], request_id: str, what: Any) -> float:
        now = self._world.now
        if seen.get(request_id, (None, 0.0))[0] != what:
            seen[request_id] = (what, now)
        return now - seen[request_id][1]

    def _fail(self, rule: str, view: View, text: str) -> None:
        self._store.safety.fail(
            rule, f"{view.request_id}, {view.status} at {view.next_seq}, {text}"
        )
