"""Commands of one kind, led around on their way to a store in memory."""

from collections.abc import Awaitable, Callable
from typing import Any

from lore.store import MemoryStore


def detour(
    store: MemoryStore, kind: type[Any], act: Callable[[Any, Callable[..., Any]], Awaitable[Any]]
) -> None:
    """From here on ``act`` answers them: it is given the command, and what would carry it out."""
    do: Any = store.do

    async def led_around(command: Any) -> Any:
        return await (act(command, do) if isinstance(command, kind) else do(command))

    store.do = led_around
