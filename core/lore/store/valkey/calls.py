"""What all chapters of the store in Valkey need: to call a function of the library."""

from collections.abc import Callable

from lore.store.base import Position
from lore.store.codec import position_from
from lore.store.functions import Functions
from lore.store.keys import log_key, partition_keys, partition_of, request_key


class Calls:
    """A connection for calls, and what stands in for the server's clock in tests."""

    _functions: Functions
    _now_ms: Callable[[], int]

    @property
    def run_id(self) -> str:
        return self._functions.run_id

    async def _change(self, name: str, request_id: str, *args: str | int) -> Position:
        return position_from(
            await self._functions.fcall(name, keys_of(request_id), self._now_ms(), *args)
        )


def keys_of(request_id: str) -> tuple[str, ...]:
    """The keys that a function on one request takes: r, c, q, lease, live."""
    return (
        request_key(request_id),
        log_key(request_id),
        *partition_keys(partition_of(request_id)),
    )
