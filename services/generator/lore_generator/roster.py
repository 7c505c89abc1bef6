"""The requests of one generator: those it works on, and finished ones it keeps (protocol P3)."""

import asyncio
from collections.abc import Callable

from lore import metrics
from lore_generator.accounts import count_acks
from lore_generator.engine import Engine
from lore_generator.owned import Owned


class Roster:
    """Keeps the engine's credit and the count of free places in step with the requests."""

    def __init__(self, engine: Engine, *, slots: int, max_requests: int, max_kept: int) -> None:
        self.live: dict[str, Owned] = {}
        self.kept: dict[str, Owned] = {}
        self.on_room: Callable[[], None] = lambda: None
        """Called when a place may have become free."""
        self._engine = engine
        self._slots = slots
        self._max_requests = max_requests
        self._max_kept = max_kept
        self.on_trial: Owned | None = None
        """The doubtful request here: one at a time, so that it takes no other along when it
        ends the process (P15)."""
        self._jobs: dict[str, Owned] = {}
        self._decoding: set[Owned] = set()
        self._now = asyncio.get_running_loop().time

    def room(self) -> int:
        """How many more requests may be claimed. A parked one takes no batch slot."""
        return min(self._slots - len(self._decoding), self._max_requests - len(self.live))

    @property
    def busy(self) -> bool:
        """Whether the engine has something to do."""
        return bool(self._decoding)

    def of_job(self, job_id: str) -> Owned | None:
        """The live request behind one of the engine's pieces."""
        return self._jobs.get(job_id)

    def holds(self, owned: Owned) -> bool:
        return self.live.get(owned.request_id) is owned

    def add(self, owned: Owned) -> None:
        """Work on a request, or again on a kept one. An earlier lease on the same is void now."""
        earlier = self.live.get(owned.request_id)
        if earlier is not None:
            self.drop(earlier)
        self.kept.pop(owned.request_id, None)
        self.live[owned.request_id] = owned
        self._jobs[owned.job.request_id] = owned
        if owned.doubtful:
            self.on_trial = owned
        self.refresh(owned)

    def refresh(self, owned: Owned) -> None:
        """Pass the credit on to the engine, and count the request as decoding or not."""
        limit = owned.producer.limit
        if owned.finished or owned.parked:
            if owned in self._decoding:
                self._decoding.remove(owned)
                owned.since_s = self._now()
                if not owned.finished:
                    metrics.REQUESTS_PARKED.inc()
                    owned.span.event("parked", tokens=owned.producer.generated_tokens)
                self.on_room()
            return
        if owned not in self._decoding:
            self._decoding.add(owned)
            now = self._now()
            if owned.submitted:
                metrics.PARKED.observe(now - owned.since_s, exemplar=owned.span.exemplar)
                owned.span.event("unparked")
            owned.since_s = now
        if not owned.submitted:
            self._engine.submit(owned.job, limit)
            owned.submitted = True
        elif limit != owned.granted:
            self._engine.grant(owned.job.request_id, limit)
        owned.granted = limit

    def clear(self, owned: Owned) -> None:
        """Something came of the request: it is not in doubt, or is another one's."""
        owned.doubtful = False
        if self.on_trial is owned:
            self.on_trial = None

    def drop(self, owned: Owned) -> None:
        """The request is no longer ours; the engine leaves it at its next step (P14)."""
        if self.holds(owned):
            self.clear(owned)
            owned.span.end()
            count_acks(owned)
            del self.live[owned.request_id]
            del self._jobs[owned.job.request_id]
            self._decoding.discard(owned)
            if owned.submitted and not owned.finished:
                self._engine.cancel(owned.job.request_id)
            self.on_room()

    def keep(self, owned: Owned) -> None:
        """The request has ended; its chunks stay for a while, the oldest answer's go first."""
        self.drop(owned)
        self.kept[owned.request_id] = owned
        if len(self.kept) > self._max_kept:
            del self.kept[next(iter(self.kept))]

    def forget(self, owned: Owned) -> None:
        """Nobody can need the kept chunks any more."""
        if self.kept.get(owned.request_id) is owned:
            del self.kept[owned.request_id]

    def measure(self) -> None:
        """Count what is too much to be counted at each step (call it once a second)."""
        now, longest_s = self._now(), 0.0
        for owned in self.live.values():
            count_acks(owned)
            window = owned.producer.window
            if window.size:
                waiting = owned.producer.generated_tokens - window.acked_tokens
                metrics.WINDOW_UTILIZATION.observe(waiting / window.size)
            if owned in self._decoding:
                longest_s = max(longest_s, now - max(owned.since_s, owned.stepped_s or 0.0))
        metrics.TOKEN_WAIT.set(longest_s)
        parked = len(self.live) - len(self._decoding)
        metrics.GENERATOR_REQUESTS["decoding"].set(len(self._decoding))
        metrics.GENERATOR_REQUESTS["parked"].set(parked)
        metrics.GENERATOR_REQUESTS["kept"].set(len(self.kept))
        metrics.GENERATOR_SLOTS.set(self._slots)
        metrics.KV_USED.set(self._engine.stats().kv_used_ratio)
