"""Watches of the policy and the generator pods, which trigger the sweep.

The content of an event is not used; the sweep lists everything anew. So a watch needs no list
before it and no version from which to continue, and when one is dropped or silent, only the time
until the next sweep is lost. Whatever the API server answers, a watch is begun again, with growing
pauses: what is denied or broken now may be granted or repaired in a minute.
"""

import asyncio
import random
from collections.abc import Callable

import structlog

from lore_operator.api import ApiFailed
from lore_operator.cluster import ApiServer
from lore_operator.pods import COMPONENT, COMPONENT_LABEL

PAUSES_S = (1.0, 2.0, 4.0, 8.0, 15.0)
"""Seconds between attempts, with a jitter of a quarter."""
STEADY_S = 30.0
"""A watch that has lasted so many seconds counts as recovered."""

log = structlog.get_logger()


def pause_s(failures: int, retry_after_s: float, chance: float) -> float:
    """The pause in seconds after so many watches in a row that did not last. ``chance``: 0 to 1."""
    base_s = PAUSES_S[min(failures, len(PAUSES_S) - 1)]
    return max(base_s * (0.75 + chance / 2), retry_after_s)


class Watch:
    """A watch of one resource, until it is cancelled."""

    def __init__(
        self, cluster: ApiServer, resource: str, on_change: Callable[[], None], **selectors: str
    ) -> None:
        self._cluster = cluster
        self.resource = resource
        self._on_change = on_change
        self._selectors = selectors
        self._failures = 0
        self._told = ""  # the last reason logged, until it has recovered

    async def run(self) -> None:
        while True:
            retry_after_s = await self._once()
            await asyncio.sleep(pause_s(self._failures, retry_after_s, random.random()))
            self._failures += 1

    async def _once(self) -> float:
        """Watch once. Returns how many seconds the server asks to be left alone."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        error: Exception | None = None
        try:
            async for event in self._cluster.changes(self.resource, **self._selectors):
                if event["type"] != "BOOKMARK":
                    self._on_change()
                if loop.time() - began_s > STEADY_S:
                    self._well()
        except ApiFailed as failed:
            error = failed
        except Exception as unknown:
            log.exception("watch failed unexpectedly", resource=self.resource)
            error = unknown
        if loop.time() - began_s > STEADY_S:
            self._well()
        else:
            self._tell(str(error) if error else "the API server ended it early")
        return getattr(error, "retry_after_s", 0.0)

    def _well(self) -> None:
        self._failures = 0
        if self._told:
            log.info("watch works again", resource=self.resource)
        self._told = ""

    def _tell(self, reason: str) -> None:
        """Log each reason once, until the watch has recovered."""
        if reason != self._told:
            log.warning("watch restarted", resource=self.resource, reason=reason)
        self._told = reason


def watches(cluster: ApiServer, policy: str, on_change: Callable[[], None]) -> tuple[Watch, Watch]:
    return (
        Watch(cluster, "pods", on_change, labelSelector=f"{COMPONENT_LABEL}={COMPONENT}"),
        Watch(cluster, "streampolicies", on_change, fieldSelector=f"metadata.name={policy}"),
    )
