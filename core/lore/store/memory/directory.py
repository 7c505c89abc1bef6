"""The twin's directory (``valkey/directory.py``)."""

import time
from collections.abc import Mapping

from lore.store.types import MAX_LISTED


class MemoryDirectory:
    def __init__(self) -> None:
        self._listed: dict[str, dict[str, float]] = {}
        self._attempts: dict[str, dict[str, float]] = {}
        self._model: dict[str, str] = {}
        self._model_until_s = 0.0

    async def list_request(self, subject: str, request_id: str, *, keep_ms: int) -> None:
        now_s, kept = time.monotonic(), self._listed.setdefault(subject, {})
        kept.pop(request_id, None)
        kept[request_id] = now_s + keep_ms / 1000
        self._listed[subject] = dict(
            [item for item in kept.items() if item[1] > now_s][-MAX_LISTED:]
        )

    async def listed(self, subject: str, *, start: int, limit: int) -> list[str]:
        return [*reversed(self._listed.get(subject, {}))][start : start + limit]

    async def note_attempt(self, mark: str, request_id: str, *, window_ms: int) -> None:
        until_s = time.monotonic() + window_ms / 1000
        kept = self._attempts.setdefault(mark, {})
        kept[request_id] = until_s
        self._attempts[mark] = dict.fromkeys(kept, until_s)

    async def attempted(self, mark: str) -> str | None:
        kept = self._attempts.get(mark, {})
        oldest = next(iter(kept), None)
        if oldest is None or kept[oldest] <= time.monotonic():
            return None
        kept[oldest] = kept.pop(oldest)
        return oldest

    async def tell_model(self, facts: Mapping[str, str], *, keep_ms: int) -> None:
        self._model = dict(facts)
        self._model_until_s = time.monotonic() + keep_ms / 1000

    async def model_fact(self, name: str) -> str | None:
        return self._model.get(name) if time.monotonic() < self._model_until_s else None
