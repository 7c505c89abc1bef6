"""Counts tokens as acknowledged by a reader or wasted (docs/metrics.md, Waste).

A request that is done or has failed is judged half a minute later, when the last acks have arrived.
One that was cancelled or reaped is judged at once. Nothing here changes a request.
"""

import asyncio
import math
from collections import deque
from dataclasses import dataclass

from lore import metrics
from lore.protocol.lifecycle import ENDED, Status
from lore.store.base import Store, StoreUnavailable
from lore_generator.owned_request import OwnedRequest

SETTLE_S = 30.0
MAX_OPEN = 10_000
"""The most requests to keep. Beyond that, the oldest is judged by what is known here."""
AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class _Account:
    owned: OwnedRequest
    status: Status
    due_s: float


def count_acks(owned: OwnedRequest, acked_tokens: int = 0) -> None:
    """Count acknowledged tokens that the owner knows of, each once."""
    acked_tokens = max(acked_tokens, owned.producer.window.acked_tokens)
    if acked_tokens > owned.counted_tokens:
        metrics.TOKENS_ACKNOWLEDGED.inc(acked_tokens - owned.counted_tokens)
        owned.counted_tokens = acked_tokens


def close(owned: OwnedRequest, status: Status, acked_tokens: int = 0) -> None:
    """Count the rest as wasted, because nobody will acknowledge more; unless the answer is meant to
    be kept.
    """
    count_acks(owned, acked_tokens)
    if owned.producer.window.size:
        judged = max(owned.counted_tokens, owned.view.written_off_tokens)
        waste = owned.producer.generated_tokens - judged
        metrics.TOKENS_WASTED[status].inc(max(0, waste))


class TokenAccounting:
    """Requests that ended here, until they can be judged."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._open: deque[_Account] = deque()
        self._now = asyncio.get_running_loop().time

    def settle_later(self, owned: OwnedRequest, status: Status) -> None:
        self._open.append(_Account(owned, status, self._now() + SETTLE_S))
        if len(self._open) > MAX_OPEN:
            oldest = self._open.popleft()
            close(oldest.owned, oldest.status)

    async def settle(self) -> None:
        """Judge the requests that are due; none while the store is away."""
        for account in await self._judge(self._now()):
            self.settle_later(account.owned, account.status)

    async def close(self) -> None:
        """Judge all requests, because there will be no other chance."""
        for account in await self._judge(math.inf):
            close(account.owned, account.status)

    async def _judge(self, until_s: float) -> list[_Account]:
        """Judge requests up to a time. Returns those that the store cannot be asked about now."""
        due: list[_Account] = []
        while self._open and self._open[0].due_s <= until_s:
            due.append(self._open.popleft())
        unknown: list[_Account] = []
        for first in range(0, len(due), AT_ONCE):
            some = due[first : first + AT_ONCE]
            told = await asyncio.gather(*map(self._is_judged, some))
            unknown += [account for account, done in zip(some, told, strict=True) if not done]
        return unknown

    async def _is_judged(self, account: _Account) -> bool:
        try:
            view = await self._store.view(account.owned.request_id)
        except StoreUnavailable:
            return False
        if view is None:
            close(account.owned, account.status)
        elif view.status in ENDED:  # otherwise the store forgot the end, which is sent again (P3)
            close(account.owned, account.status, view.acked_tokens)
        return True
