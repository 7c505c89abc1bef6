"""The requests of one generator as the engine and the metrics see them (``protocol/leases.py``)."""

import asyncio

from lore import metrics
from lore.protocol.leases import Leases
from lore.protocol.owner import Owner
from lore_generator.engine import Engine
from lore_generator.owned_request import OwnedRequest
from lore_generator.token_accounting import count_acks


class RequestTable:
    """Keeps the engine's credit in step with the requests."""

    def __init__(self, engine: Engine, leases: Leases, *, slots: int) -> None:
        self._engine = engine
        self._leases = leases
        self._slots = slots
        self._owned: dict[Owner, OwnedRequest] = {}
        """Live and kept requests, and those that are being handed back."""
        self.jobs: dict[str, OwnedRequest] = {}
        """The live requests by the names of their jobs, which an engine's pieces have."""
        self.unheard: dict[Owner, OwnedRequest] = {}
        """The requests of which the store has never had a chunk."""
        self._now = asyncio.get_running_loop().time

    @property
    def busy(self) -> bool:
        """Whether the engine has work."""
        return self._leases.decoding > 0

    def of(self, owner: Owner) -> OwnedRequest | None:
        return self._owned.get(owner)

    def add(self, owned: OwnedRequest) -> None:
        """Add a request, or one that had ended and is alive again."""
        self._owned[owned.owner] = owned
        self.jobs[owned.job.request_id] = owned
        if owned.queued_s is not None:
            self.unheard[owned.owner] = owned
        self.refresh(owned)

    def refresh(self, owned: OwnedRequest) -> None:
        """Note that a request has moved. ``share`` passes on what follows from it."""
        owner = owned.owner
        self._leases.note(owner, self._now())
        if owner.unread and owned.submitted and owned.granted != 0:
            self._engine.hold(owned.job.request_id)
            owned.granted = 0
        self._place(owned)

    def share(self, waiting: int) -> None:
        """Pass credit on to the engine while ``waiting`` requests want a place here (P20)."""
        pacer, now = self._leases.pacer, self._now()
        pacer.on_waiting(waiting)
        if pacer.deadline() > now:
            return
        changes = pacer.take(now)
        for owner, limit in changes.grants:
            owned = self._owned[owner]
            if not owned.submitted:
                self._engine.submit(owned.job, limit)
                owned.submitted = True
            else:
                self._engine.grant(owned.job.request_id, limit)
            owned.granted = limit
        for owner in (*changes.resumed, *changes.parked):
            self._place(self._owned[owner])

    def _place(self, owned: OwnedRequest) -> None:
        """Note why a request has no place in the batch, or '' if it has one."""
        owner, now, pacer = owned.owner, self._now(), self._leases.pacer
        if owner.finished or not self._leases.holds(owner):
            return
        why = "window" if owner.parked else "pace" if pacer.is_parked(owner) else ""
        if why == owned.parked:
            return
        before, owned.parked = owned.parked, why
        if why:
            metrics.REQUESTS_PARKED[why].inc()
            owned.stepped_s = None
        if owned.submitted:
            self._engine.park(owned.job.request_id, self._ahead(owned, now) if why else 0)
        if why == "window":
            owned.span.event("parked", tokens=owned.producer.generated_tokens)
        elif before == "window" and owned.submitted:
            metrics.PARKED.observe(now - owned.since_s, exemplar=owned.span.exemplar)
            owned.span.event("unparked")
        owned.since_s = now

    def _ahead(self, owned: OwnedRequest, now: float) -> int:
        """How many tokens it has that its reader needs later, or has not acknowledged."""
        owner, pacer = owned.owner, self._leases.pacer
        unread = owned.producer.generated_tokens - (owned.producer.acked_tokens or 0)
        return round(pacer.ahead(owner, now)) if pacer.is_parked(owner) else unread

    def leave(self, owned: OwnedRequest) -> None:
        """Cancel the request in the engine, at its next step (P14.1)."""
        if self.jobs.pop(owned.job.request_id, None) is not None:
            owned.span.end()
            count_acks(owned)
            if owned.submitted and not owned.owner.finished:
                self._engine.cancel(owned.job.request_id)

    def forget(self, owned: OwnedRequest) -> None:
        self.leave(owned)
        self._owned.pop(owned.owner, None)
        self.unheard.pop(owned.owner, None)

    def measure(self) -> None:
        """Update metrics that are too costly for each step. Call it once a second."""
        now, longest_s, leases = self._now(), 0.0, self._leases
        for owner in leases.live.values():
            owned = self._owned.get(owner)
            if owned is None:
                continue  # it is just being submitted
            count_acks(owned)
            window = owned.producer.window
            if window.size:
                waiting = owned.producer.generated_tokens - window.acked_tokens
                metrics.WINDOW_UTILIZATION.observe(waiting / window.size)
            if leases.pacer.is_decoding(owner):
                longest_s = max(longest_s, now - max(owned.since_s, owned.stepped_s or 0.0))
        metrics.TOKEN_WAIT.set(longest_s)
        decoding, paced = leases.decoding, leases.pacer.parked
        metrics.GENERATOR_REQUESTS["decoding"].set(decoding)
        metrics.GENERATOR_REQUESTS["parked"].set(len(leases.live) - decoding - paced)
        metrics.GENERATOR_REQUESTS["paced"].set(paced)
        metrics.GENERATOR_REQUESTS["kept"].set(len(leases.kept))
        metrics.GENERATOR_SLOTS.set(self._slots)
        stats = self._engine.stats()
        metrics.KV_USED.set(stats.kv_used_ratio)
        metrics.ENGINE_SERVERS["up"].set(stats.servers_up)
        metrics.ENGINE_SERVERS["down"].set(stats.servers_down)
        metrics.ENGINE_WAITING.set(stats.waiting)
