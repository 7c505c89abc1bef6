"""Who is served next by a generator that has room for one at a time (P17)."""

import asyncio
import math
from typing import Any

import pytest

from lore.protocol.commands import Claim
from lore.store import MemoryStore
from lore.store.base import Limits, NewRequest
from lore.store.types import Admit, Open
from lore_generator.engines.options import SyntheticOptions
from tests.services.generator_harness import WAIT_S, Generator, ask

ONE_AT_A_TIME = SyntheticOptions(rate_tokens_per_s=math.inf, slots=1)
FLOOD = 40


class Watched(MemoryStore):
    """Remembers the order of the claims."""

    def __init__(self) -> None:
        super().__init__()
        self.claimed: list[str] = []
        self.all_claimed = asyncio.Event()

    async def do(self, command: Any) -> Any:
        found: Any = await super().do(command)
        if isinstance(command, Claim) and found is not None:
            self.claimed.append(found.view.request_id)
            if len(self.claimed) > FLOOD:
                self.all_claimed.set()
        return found


async def open_for(store: MemoryStore, client: str, request_id: str) -> None:
    admission = await store.do(Admit(client, request_id, Limits(), quantum_ms=10_000))
    body = ask(ack="none", max_tokens=5).model_dump_json()
    new = NewRequest(request_id, "", body, "", "none", 0, admission.place_ms)
    await store.do(Open(new, queue_limit=100))


@pytest.mark.rule("P17.4")
async def test_whoever_asks_little_is_served_soon_after_a_flood_began() -> None:
    """P17: behind one request of the flood, wherever the hash has put them all."""
    store = Watched()
    for number in range(FLOOD):
        await open_for(store, "flood", f"flood-{number}")
    await open_for(store, "polite", "polite")
    async with Generator(store, "g1", ONE_AT_A_TIME):
        async with asyncio.timeout(WAIT_S):
            await store.all_claimed.wait()
    assert len(store.claimed) == len({*store.claimed}) == FLOOD + 1
    assert store.claimed.index("polite") <= 2
