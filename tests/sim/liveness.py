"""What must happen in the end, and how soon: once faults have healed, no request stands still.

An owner that has ended is missed within a second where it was seen; else its lease has to lapse.
After a store's return the grace comes first. Nothing else is a reason to wait, so a request that
its generators leave alone for longer is a violation, as a lost chunk is. What waits for its
reader's acks (P5) waits for them alone, and what was claimed in vain before for the others of its
kind: a generator has one of them on trial at a time (P15), each of which is watched itself.

An owner that lives works on what it owns, and keeps it: it is no reason to wait for its lease.
"""

from collections.abc import Sequence
from typing import Any

from lore.protocol.leases import RENEWALS_PER_LEASE
from lore.protocol.lifecycle import OWNED, Status
from lore.protocol.presence import LOOK_EVERY_S, SILENT_S
from lore.store.base import View
from tests.sim.edge import Edge
from tests.sim.feed import FOLLOWER
from tests.sim.generator import Generator
from tests.sim.store import StoreNode
from tests.sim.world import CALL_TIMEOUT_S, World

MOVES = (Status.QUEUED, Status.GENERATING)
FORGOTTEN_S = CALL_TIMEOUT_S + 1.0
"""How long a call for a request may be under way, twice as long as it may take unheard."""


class Progress:
    def __init__(
        self,
        world: World,
        store: StoreNode,
        generators: Sequence[Generator],
        edges: Sequence[Edge],
    ) -> None:
        self._world = world
        self._store = store
        self._generators = generators
        self._edges = edges
        self._began_s = world.now
        self._still: dict[str, tuple[Any, float]] = {}
        self._orphans: dict[str, tuple[Any, float]] = {}
        self._owners: dict[str, View] = {}

    @property
    def bound_s(self) -> float:
        """The grace and one lease; besides, a call that was lost just before, the poll that
        finds a request, and the steps that read its prompt and bring text."""
        return self._world.options.lease_s + self._without_lease_s

    @property
    def _without_lease_s(self) -> float:
        options = self._world.options
        steps_s = (1 + options.prompt_steps) * options.step_s
        return options.grace_s + CALL_TIMEOUT_S + 1.25 * options.poll_s + steps_s + 0.5

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
        now_ms = self._world.now_ms
        found = {key: self._store.state.view(key, now_ms=now_ms) for key in requests}
        trials = {v.owner for v in found.values() if v and v.tries > 1 and self._is_kept(v)}
        are_free = any(one.owner not in trials for one in self._generators if not one.draining)
        for request_id, view in found.items():
            if view is None:
                self._still.pop(request_id, None)
                self._owners.pop(request_id, None)
                continue
            if view.tries and not are_free and not self._is_kept(view):
                self._still.pop(request_id, None)  # its turn is yet to come
            else:
                self._watch_pace(view)
            self._watch_owner(view)

    def _watch_pace(self, view: View) -> None:
        if view.status is Status.PAUSED and view.next_seq == 1 and self._is_read(view):
            place = (view.status, view.epoch)
            still_s = self._since(self._still, view.request_id, place)
            if still_s > FOLLOWER.look_every_s + 2 * CALL_TIMEOUT_S:
                self._fail("P7", view, f"waits for a reader, and has one for {still_s:.1f} s")
            return
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
        if self._waits_for_a_slot(view, owner):
            self._still.pop(view.request_id, None)
            return
        bound_s += self._paced_s
        if self._is_missed(view):
            bound_s = min(bound_s, self._without_lease_s + SILENT_S + 3 * LOOK_EVERY_S)
        if still_s > bound_s:
            self._fail("liveness", view, f"stands still for {still_s:.1f} s")

    @property
    def _paced_s(self) -> float:
        """How long a request may be parked for pace (P20): all that its window lets it have is
        read."""
        options = self._world.options
        if options.pace_config is None:
            return 0.0
        reading = options.pace_config.tokens_per_s * options.pace_config.reading_ratio
        return max(options.window_tokens, options.window_maximum_tokens) / reading

    def _waits_for_a_slot(self, view: View, owner: Generator | None) -> bool:
        """Whether others have all the slots where it is, or may go."""
        if owner is None or not owner.holds(view.request_id, view.epoch):
            places = [one for one in self._generators if not one.draining]
            return bool(places) and all(one.claims.room <= 0 for one in places)
        ours = owner.leases.live[view.request_id]
        held = [o for o, job in owner.jobs.items() if job.may_decode]
        return ours not in held and len(held) >= self._world.options.slots

    def _is_missed(self, view: View) -> bool:
        """Whether its owner has ended, and somebody has met and seen it in this life of the
        store."""
        store = self._store
        if view.status not in OWNED or view.owner not in store.stays or not self._world.is_prompt:
            return False
        run_id, since_s, until_s = store.stays[view.owner]
        if run_id != store.state.run_id or store.generator(view.owner) is not None:
            return False
        witnesses = (max(since_s, store.heard_since(one)) for one in self._generators)
        met_s = 2 * 1.25 * self._world.options.poll_s + 2 * LOOK_EVERY_S
        record = store.state._records[view.request_id]  # pyright: ignore[reportPrivateUsage]
        return record.has_channel and min(witnesses) + met_s < until_s

    def _watch_owner(self, view: View) -> None:
        """P15: who owns a request works on it, and who works on it keeps it."""
        owner = self._alive(view.owner) if self._is_kept(view) else None
        unheard = (view.request_id, view.epoch) in self._store.unheard
        if owner is None or unheard or owner.works_on(view.request_id, view.epoch):
            self._orphans.pop(view.request_id, None)
        else:
            forgotten_s = self._since(self._orphans, view.request_id, (view.owner, view.epoch))
            if forgotten_s > FORGOTTEN_S:
                self._fail("P15", view, f"is not worked on by its owner for {forgotten_s:.1f} s")
        if view.request_id in self._store.reaped:
            self._store.reaped.discard(view.request_id)
            if not self._world.tells_in_time:
                self._owners.pop(view.request_id, None)
        before = self._owners.get(view.request_id)
        if view.status in OWNED:
            self._owners[view.request_id] = view
        if before is None or before.epoch == view.epoch or view.owner == "":
            return
        loser = self._alive(before.owner)
        settled = self._world.now - self._began_s > self.bound_s
        if settled and loser is not None and loser.holds(view.request_id, before.epoch):
            self._fail("P15", view, f"was taken from {before.owner}, which lives")

    def _is_kept(self, view: View) -> bool:
        """Whether an owner that lives has it, and its lease runs."""
        is_leased = view.status in OWNED and view.lease_until_ms > self._world.now_ms
        return is_leased and self._alive(view.owner) is not None

    def _is_read(self, view: View) -> bool:
        feeds = (edge.feeds.get(view.request_id) for edge in self._edges)
        return any(feed is not None and feed.connections for feed in feeds)

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
