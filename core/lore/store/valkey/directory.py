"""Look-ups without a request's id: a subject's requests, a retry's request, and the model.

These are hints, made of plain commands that are not atomic with a request's changes. Callers check
what they find. A store that loses its data loses them. All raise StoreUnavailable.
"""

import asyncio
import time
from collections.abc import Mapping

from lore.store.keys import attempts_key, model_key, partition_of, subject_key
from lore.store.types import MAX_LISTED
from lore.store.valkey.calls import FunctionCalls


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class Directory(FunctionCalls):
    async def list_request(self, subject: str, request_id: str, *, keep_ms: int) -> None:
        functions, key, now_ms = self._of(subject), subject_key(subject), _now_ms()
        *_, count = await asyncio.gather(  # in one round trip
            functions.ask("ZADD", key, now_ms, request_id),
            functions.ask("PEXPIREAT", key, now_ms + keep_ms),
            functions.ask("ZREMRANGEBYSCORE", key, "-inf", now_ms - keep_ms),
            functions.ask("ZCARD", key),
        )
        over = count - MAX_LISTED
        if over > 0:
            await functions.ask("ZREM", key, *await functions.ask("ZRANGE", key, 0, over - 1))

    async def listed(self, subject: str, *, start: int, limit: int) -> list[str]:
        return await self._of(subject).ask(
            "ZRANGE", subject_key(subject), start, start + limit - 1, "REV"
        )

    async def note_attempt(self, mark: str, request_id: str, *, window_ms: int) -> None:
        functions, key, now_ms = self._of(mark), attempts_key(mark), _now_ms()
        await asyncio.gather(
            functions.ask("ZADD", key, now_ms, request_id),
            functions.ask("PEXPIREAT", key, now_ms + window_ms),
        )

    async def attempted(self, mark: str) -> str | None:
        functions, key = self._of(mark), attempts_key(mark)
        oldest = await functions.ask("ZRANGE", key, 0, 0)
        if not oldest:
            return None
        await functions.ask("ZADD", key, _now_ms(), oldest[0])
        return oldest[0]

    async def tell_model(self, facts: Mapping[str, str], *, keep_ms: int) -> None:
        functions, key = self._functions[partition_of("")], model_key()
        await functions.ask("HSET", key, *(part for pair in facts.items() for part in pair))
        await functions.ask("PEXPIREAT", key, _now_ms() + keep_ms)

    async def model_fact(self, name: str) -> str | None:
        return await self._functions[partition_of("")].ask("HGET", model_key(), name)
