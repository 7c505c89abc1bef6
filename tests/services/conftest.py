import asyncio
from collections.abc import Callable

import pytest
import uvloop


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Edges are tested on the loop that they run on: its transports are not asyncio's."""
    if item.path.name.startswith(("test_edge", "test_openai", "test_metrics_edge")):
        return {"uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.new_event_loop}
