"""What all chapters of the store in Valkey need: to call a function of the library."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from lore.store.base import Position, StoreUnavailable
from lore.store.codec import position_from
from lore.store.functions import Functions
from lore.store.keys import log_key, partition_keys, partition_of, request_key

T = TypeVar("T")


class Calls:
    """The connection for each partition's calls, and what stands in for the server's clock in
    tests."""

    _functions: Sequence[Functions]
    _now_ms: Callable[[], int]

    def run_id(self, partition: int) -> str:
        return self._functions[partition].run_id

    def _of(self, request_id: str) -> Functions:
        return self._functions[partition_of(request_id)]

    async def _change(self, name: str, request_id: str, *args: str | int) -> Position:
        return position_from(
            await self._of(request_id).fcall(name, keys_of(request_id), self._now_ms(), *args)
        )


async def answers(calls: Iterable[Awaitable[T]]) -> list[T | None]:
    """In order; None from a server of a cluster that is away. Raises StoreUnavailable when all
    are."""
    found = await asyncio.gather(*calls, return_exceptions=True)
    away = [answer for answer in found if isinstance(answer, BaseException)]
    for error in away:
        if len(away) == len(found) or not isinstance(error, StoreUnavailable):
            raise error
    return [None if isinstance(answer, BaseException) else answer for answer in found]


def keys_of(request_id: str) -> tuple[str, ...]:
    """The keys that a function on one request takes: r, c, q, lease, live."""
    return (
        request_key(request_id),
        log_key(request_id),
        *partition_keys(partition_of(request_id)),
    )
