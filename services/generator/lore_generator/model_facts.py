"""What generators publish about the model, so that edges can refuse prompts that do not fit.

The last generator's report counts. While a fleet changes its model, a prompt that an edge accepts
may still be refused by the generator that claims it.
"""

import asyncio
import contextlib

from lore.store.base import Store, StoreUnavailable
from lore_generator.engine import EngineInfo

INTERVAL_S = 15.0
KEPT_INTERVALS = 4
"""A report that is not repeated for so many intervals is forgotten."""


async def tell(store: Store, info: EngineInfo) -> None:
    """Publish for as long as the generator lives."""
    facts = {
        "model": info.model,
        "context_tokens": str(info.context_tokens),
        "tokenizer": info.tokenizer,
        "parts": info.parts,
        "switches": info.switches,
    }
    while True:
        with contextlib.suppress(StoreUnavailable):
            await store.tell_model(facts, keep_ms=round(KEPT_INTERVALS * INTERVAL_S * 1000))
        await asyncio.sleep(INTERVAL_S)
