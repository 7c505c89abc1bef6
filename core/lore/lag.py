"""Measures the lag of the event loop, which delays everything in it."""

import asyncio
from time import perf_counter

from lore import keepers
from lore.metrics import LOOP_LAG

INTERVAL_S = 0.25


async def measure_lag() -> None:
    """Measure for as long as the service runs."""
    while True:
        keepers.beat()
        began_s = perf_counter()
        await asyncio.sleep(INTERVAL_S)  # how late it ends is the measure
        LOOP_LAG.observe(max(0.0, perf_counter() - began_s - INTERVAL_S))
