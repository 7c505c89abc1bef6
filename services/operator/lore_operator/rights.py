"""The rights that RBAC denies the operator, so that it can name them."""

import structlog

from lore import metrics
from lore_operator.api import ApiFailed
from lore_operator.cluster import ApiServer
from lore_operator.rbac import NEEDS, Need

log = structlog.get_logger()

AGAIN_MS = 10 * 60_000
"""How often to ask again. A watch that is denied later retries by itself, and is noticed here."""


class Rights:
    def __init__(self, cluster: ApiServer, policy: str) -> None:
        self.denied: tuple[Need, ...] = ()
        self._cluster = cluster
        self._policy = policy
        self._doubtful = True
        self._reviewed_ms = 0

    def doubt(self) -> None:
        """A call was refused: ask at the next review."""
        self._doubtful = True

    async def review(self, now_ms: int) -> None:
        """Ask the API server for the operator's rights: at every review while one is denied,
        because the Role may be corrected, else now and then.
        """
        if not self._doubtful and now_ms - self._reviewed_ms < AGAIN_MS:
            return
        try:
            denied = [need for need in NEEDS if not await self._cluster.may(need, self._policy)]
        except ApiFailed:
            return  # the sweep's next call fails as well, and reports it
        self._doubtful, self._reviewed_ms = bool(denied), now_ms
        for need in NEEDS:
            metrics.OPERATOR_DENIED[str(need)].set(need in denied)
        for need in denied:
            if need not in self.denied:
                log.error(
                    "RBAC denies the operator a verb",
                    verb=need.verb,
                    resource=need.resource,
                    group=need.group,
                    namespace=self._cluster.namespace,
                )
        self.denied = tuple(denied)

    def __str__(self) -> str:
        verbs = ", ".join(str(need) for need in self.denied)
        return f"RBAC denies the operator: {verbs}" if verbs else ""
