import asyncio
from collections.abc import Callable

import pytest
import uvloop

BOTH_LOOPS = {
    "test_edge_acks_again",
    "test_edge_joining",
    "test_edge_recovery",
    "test_edge_retransmission",
    "test_edge_stream",
    "test_edge_waking",
}


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Edges are tested on the loop that they run on: its transports and timers are not asyncio's.
    What waits, wakes and writes is tested on both."""
    if item.path.stem in BOTH_LOOPS:
        return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}
    if item.path.name.startswith(("test_edge", "test_openai", "test_metrics_edge")):
        return {"uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.new_event_loop}
