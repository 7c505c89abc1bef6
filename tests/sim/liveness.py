"""What must happen in the end, and how soon: once faults have healed, no request stands still.

A dead owner's lease has to lapse, and after a store's return the grace comes first. Nothing else
is a reason to wait, so a request that its generators leave alone for longer is a violation, as a
lost chunk is. What waits for its reader's acks (P5) waits for them alone.
"""

from typing import Any

from lore.protocol.lifecycle import Status
from lore.store.memory import StoreState
from tests.sim.checkers import Safety
from tests.sim.world import CALL_TIMEOUT_S, Node, World

MOVES = (Status.QUEUED, Status.GENERATING)


class Pace:
    def __init__(self, world: World, safety: Safety) -> None:
        self._world = world
        self._safety = safety
        self._seen: dict[str, tuple[Any, float]] = {}

    @property
    def bound_s(self) -> float:
        """The grace and one lease; besides, a call that was lost just before, the poll that
        finds a request, and the step that brings text."""
        options = self._world.options
        besides_s = CALL_TIMEOUT_S + 1.25 * options.poll_s + 2 * options.step_s + 0.5
        return options.grace_s + options.lease_s + besides_s

    def watch(self, state: StoreState, parts: list[Node], requests: set[str]) -> None:
        """Look at all requests. Time counts while all parts are there."""
        now = self._world.now
        if not all(part.up and part.frozen_until <= now for part in parts):
            self._seen.clear()
        for request_id in requests:
            view = state.view(request_id, now_ms=self._world.now_ms)
            if view is None or view.status not in MOVES:
                self._seen.pop(request_id, None)
                continue
            place = (view.status, view.epoch, view.log_id, view.next_seq)
            if self._seen.get(request_id, (None, 0.0))[0] != place:
                self._seen[request_id] = (place, now)
            still_s = now - self._seen[request_id][1]
            if still_s > self.bound_s:
                text = f"{request_id} has been {view.status} at {view.next_seq} for {still_s:.1f} s"
                self._safety.fail("liveness", text)
