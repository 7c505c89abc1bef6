"""The sweep: observe, ``plan``, act, report.

The store and the API server may be away at any time. A sweep does what is possible without them,
and the next one follows as usual.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import structlog

from lore import keepers, logs, metrics, tracing
from lore.keepers import Keeper
from lore.lag import measure_lag
from lore.protocol import commands
from lore.protocol.lifecycle import LIVE, Status
from lore.store.base import Outcome, Store, StoreUnavailable, View
from lore.sweep import Finding
from lore_operator.api import ApiFailed, Conflict, Forbidden, Missing
from lore_operator.cluster import ApiServer
from lore_operator.fleet import Fleet, Observed
from lore_operator.news import PolicyEvents
from lore_operator.plan import (
    Action,
    Loss,
    ReapAction,
    ReleaseAction,
    SetCost,
    Tell,
    plan,
    waiting_since_ms,
)
from lore_operator.pods import Pod
from lore_operator.policy import StreamPolicy, read_policy
from lore_operator.rights import Rights
from lore_operator.settings import OperatorSettings
from lore_operator.status import Facts, new_status, rfc3339, trouble_of

log = structlog.get_logger()

MOST = 100_000
"""How many requests one sweep looks at; more than a fleet should ever have."""
AT_ONCE = 500
"""How many calls to the store run at a time."""
GAP_S = 0.2
"""Seconds between sweeps that a watch asked for: a rollout changes many pods at once."""
WORRIED_GAP_S = 2.0
"""Seconds after an incomplete sweep: a server that did not answer is not asked again at once."""
HUNG_S = 120.0
"""Seconds after which a sweep counts as stuck: longer than one in which every call times out."""


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class Sweeper:
    def __init__(
        self,
        settings: OperatorSettings,
        cluster: ApiServer,
        store: Store,
        clock_ms: Callable[[], int] = _now_ms,
    ) -> None:
        """``store`` need not be connected yet, because it may be away."""
        self._settings = settings
        self._cluster = cluster
        self._store = store
        self._clock_ms = clock_ms
        self._connected = False
        self._fleet, self._news = Fleet(), PolicyEvents()
        self._store_full = False
        self._rights = Rights(cluster, settings.policy)
        self._policy: StreamPolicy | None = None
        self._wake = asyncio.Event()
        self._keepers: list[Keeper] = []
        self._asked = False
        self._complaints: set[str] = set()  # of this sweep
        self._complained: set[str] = set()  # of the one before
        self._beat = time.monotonic()
        self._retry_after_s = 0.0  # what the API server asked for in this sweep

    # called by the health server's thread

    def live(self) -> str | None:
        silent_s = time.monotonic() - self._beat
        hung = silent_s > HUNG_S + self._settings.sweep_s
        return f"no sweep for {silent_s:.0f} s" if hung else keepers.live()

    def ready(self) -> str | None:
        """Why it is not ready, or None. A store that is away has an alarm of its own and does not
        count.
        """
        return str(self._rights) or (None if self._asked else "starting")

    # life cycle

    async def start(self) -> None:
        self._keepers = [Keeper("sweep", self._run), Keeper("event loop's lag", measure_lag)]

    async def stop(self) -> None:
        for keeper in self._keepers:
            await keeper.stop()
        await self._store.close()
        await self._cluster.close()

    def wake(self) -> None:
        """Something changed: sweep now."""
        self._wake.set()

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            try:
                await self.sweep()
            except Exception:
                log.exception("sweep failed")
                metrics.SWEEPS["failed"].inc()
            self._beat = time.monotonic()
            gap_s = WORRIED_GAP_S if self._complaints else GAP_S
            await asyncio.sleep(max(min(gap_s, self._settings.sweep_s), self._retry_after_s))
            try:
                async with asyncio.timeout(self._settings.sweep_s):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def sweep(self) -> None:
        """Sweep once. Does not raise when the store or the API server is away."""
        self._complained, self._complaints = self._complaints, set()
        self._retry_after_s = 0.0
        began_s = time.perf_counter()
        await self._rights.review(self._clock_ms())
        body = await self._read_policy()
        invalid = self._follow(body)
        views, store_away = await self._live()
        pods = await self._pods()
        actions, waiting_since = list[Action](), ""
        if self._policy is not None:
            observed = self._look(views, pods)
            now_ms = self._clock_ms()
            actions = plan(observed, self._policy, now_ms)
            waiting_since = rfc3339(waiting_since_ms(actions, now_ms))
            store_away = await self._change_requests(actions, self._policy) or store_away
            await self._set_costs([one for one in actions if isinstance(one, SetCost)])
        found = [one for one in actions if isinstance(one, Tell)]
        if views is not None:
            self._measure(views, found, pods)
        if body is not None:
            store_away = await self._explained(store_away)
            denied, full = str(self._rights), self._store_full
            facts = Facts(invalid, store_away, denied, pods, full, waiting_since)
            await self._report(body, facts, found)
        metrics.SWEEP_DURATION.observe(time.perf_counter() - began_s)
        incomplete = "incomplete" if self._complaints else "ok"
        metrics.SWEEPS["store_away" if store_away else incomplete].inc()

    # observation

    async def _read_policy(self) -> dict[str, Any] | None:
        name = self._settings.policy
        try:
            body = await self._cluster.policy(name)
        except Missing:
            self._policy, self._asked = None, True
            self._complain(
                f"there is no StreamPolicy {name} in the namespace {self._cluster.namespace}, "
                "so nothing is swept"
            )
            return None
        except ApiFailed as error:
            self._on_failure(error)
            return None
        self._asked = True
        return body

    def _follow(self, body: dict[str, Any] | None) -> str:
        """Take a policy. Returns what is wrong with it; the last valid one then stays in use."""
        try:
            if body is not None:
                self._policy = read_policy(body.get("spec", {}))
        except ValueError as error:
            return str(error)
        return ""

    async def _live(self) -> tuple[list[View] | None, str]:
        """The live requests; or None, and why they cannot be read."""
        try:
            if not self._connected:
                await self._store.connect()
                self._connected = True
            views = await self._store.live(limit=MOST)
            vitals = await self._store.vitals()
        except StoreUnavailable as error:
            return None, str(error)
        self._store_full = vitals.is_full
        metrics.VALKEY_MEMORY.set(vitals.memory_bytes)
        metrics.VALKEY_MEMORY_LIMIT.set(vitals.memory_limit_bytes)
        metrics.VALKEY_REPLICAS.set(vitals.replicas)
        metrics.VALKEY_REPLICA_LAG.set(vitals.replica_lag_bytes)
        return views, ""

    async def _pods(self) -> list[Pod] | None:
        """The pods. They are listed after the requests, as ``Fleet.look`` needs."""
        if self._policy is None:
            return None
        try:
            return await self._cluster.pods(self._policy.generators.match_labels)
        except ApiFailed as error:
            self._on_failure(error)
            return None

    async def _explained(self, store_away: str) -> str:
        """Why the store is away, with what keeps the release's own from running, if it is that."""
        try:
            pods = await self._cluster.bundled_store() if store_away else []
        except ApiFailed as error:
            self._on_failure(error)
            pods = []
        trouble = trouble_of(pods)
        return f"{store_away} ({trouble})" if trouble else store_away

    def _look(self, views: list[View] | None, pods: list[Pod] | None) -> Observed:
        if views is None or pods is None:
            self._fleet.blink()
            return Observed(views or ())
        return self._fleet.look(views, pods, self._clock_ms())

    # actions

    async def _change_requests(self, actions: Sequence[Action], policy: StreamPolicy) -> str:
        """Reap and release requests. Returns why that was impossible, or ''."""
        changes = [one for one in actions if isinstance(one, ReleaseAction | ReapAction)]
        for first in range(0, len(changes), AT_ONCE):
            some = changes[first : first + AT_ONCE]
            calls = (self._change(one, policy) for one in some)
            done = await asyncio.gather(*calls, return_exceptions=True)
            for error in done:
                if isinstance(error, StoreUnavailable):
                    return str(error)
                if error is not None:
                    raise error
        return ""

    async def _change(self, action: ReleaseAction | ReapAction, policy: StreamPolicy) -> None:
        view = action.view
        if isinstance(action, ReapAction):
            position = await self._store.do(
                commands.Reap(
                    view.request_id,
                    idle_ms=policy.stall.after_seconds * 1000,
                    retention_ms=policy.retention_seconds * 1000,
                )
            )
            if position.outcome is Outcome.OK:
                self._news.reaped()
                _trace("reap", view, "stalled")
                metrics.REQUESTS_REAPED.inc()
                log.info("reaped", **logs.of(view), generator_id=view.owner)
        else:
            # It counts as a try, as a lapsed lease does: the request may be what ended the owner.
            why = "silent" if action.loss is Loss.SILENT else "failed"
            position = await self._store.do(
                commands.Release(view.request_id, view.owner, view.epoch, why)
            )
            if position.outcome is Outcome.OK:
                self._news.released(view.owner, action.loss)
                _trace("release", view, action.loss.value)
                metrics.LEASES_RELEASED[action.loss.value].inc()
                log.info(
                    "released", **logs.of(view), generator_id=view.owner, loss=action.loss.value
                )

    async def _set_costs(self, changes: Sequence[SetCost]) -> None:
        for change in changes:
            try:
                await self._cluster.set_cost(change.pod, change.cost)
            except (Missing, Conflict):
                continue  # it is gone, or another pod has its name
            except ApiFailed as error:
                self._on_failure(error)
                return

    # reports

    def _measure(
        self, views: list[View], found: Sequence[Tell], pods: Sequence[Pod] | None
    ) -> None:
        now_ms, oldest_ms = self._clock_ms(), 0
        metrics.LAST_SWEEP.set(now_ms / 1000)
        if pods is not None:
            leaving = sum(pod.leaving for pod in pods)
            ready = sum(pod.ready and not pod.leaving for pod in pods)
            metrics.GENERATOR_PODS["leaving"].set(leaving)
            metrics.GENERATOR_PODS["ready"].set(ready)
            metrics.GENERATOR_PODS["unready"].set(len(pods) - leaving - ready)
        count = dict.fromkeys(sorted(LIVE), 0)
        for view in views:
            count[view.status] += 1
            if view.status is Status.QUEUED:
                oldest_ms = max(oldest_ms, now_ms - view.progress_ms)
        for status, requests in count.items():
            metrics.LIVE_REQUESTS[status.value].set(requests)
        metrics.QUEUE_OLDEST.set(oldest_ms / 1000)
        told = {tell.finding: tell.requests for tell in found}
        for finding in Finding:
            metrics.FINDINGS[finding.value].set(told.get(finding, 0))

    async def _report(self, body: dict[str, Any], facts: Facts, found: Sequence[Tell]) -> None:
        now_ms = self._clock_ms()
        now = rfc3339(now_ms)
        try:
            status = new_status(body, facts, now)
            if status is not None:
                await self._cluster.set_status(body, status)
        except (Conflict, Missing):
            pass  # the next sweep reads the new version
        except ApiFailed as error:
            self._on_failure(error)
        try:
            for event in self._news.take(
                found,
                facts.store_away,
                facts.denied,
                now_ms,
                store_full=facts.store_full,
                failing=trouble_of(facts.pods or ()),
            ):
                await self._cluster.post_event(body, event.kind, event.reason, event.message, now)
        except ApiFailed as error:
            self._on_failure(error)

    def _on_failure(self, error: ApiFailed) -> None:
        if isinstance(error, Forbidden):
            self._rights.doubt()
        self._retry_after_s = max(self._retry_after_s, error.retry_after_s)
        self._complain(str(error))

    def _complain(self, what: str) -> None:
        """Log a complaint once, until a sweep succeeds without it."""
        if what not in self._complained | self._complaints:
            log.warning("sweep incomplete", reason=what)
        self._complaints.add(what)


def _trace(what: str, view: View, why: str) -> None:
    """Record in the request's trace what was done to it."""
    told = {"lore.request.id": view.request_id, "lore.generator.id": view.owner, "lore.why": why}
    tracing.begin(what, parent=view.trace, attributes=told).end()
