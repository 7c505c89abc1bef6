"""Waits for a store that does not exist yet, or is not usable yet."""

import asyncio
import time
from collections.abc import Callable

import structlog

from lore.store.base import Store
from lore.store.types import StoreUnavailable

RETRY_S = 0.5
SAY_AGAIN_S = 60.0

log = structlog.get_logger()


async def connect(store: Store, wait_s: float, on_wait: Callable[[str], None]) -> None:
    """Connect, and try again for ``wait_s`` seconds; 0 means without a limit.

    Before each pause, ``on_wait`` is called with what is waited for and why. Raises
    StoreUnavailable when the time is over.
    """
    began_s = time.monotonic()
    say_s = began_s
    while True:
        try:
            await store.connect()
        except StoreUnavailable as error:
            now = time.monotonic()
            on_wait(f"waiting for the store: {error}")
            if wait_s and now - began_s >= wait_s:
                raise
            if now >= say_s:
                log.warning("waiting for the store", reason=str(error))
                say_s = now + SAY_AGAIN_S
            await asyncio.sleep(RETRY_S)  # a server that is away sends no event
        else:
            return
