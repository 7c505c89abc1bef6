"""Engines of others that are killed under real readers, in the short form for each test run."""

import random

import pytest

from tests.engines import llamacpp
from tests.faults.engines import draw, engine_faults, greedy, stand
from tests.faults.run import run_round

TOKENS = 24
STREAMS = 6


@pytest.mark.model
@pytest.mark.faults
@pytest.mark.skipif(bool(llamacpp.missing()), reason=llamacpp.missing() or "-")
async def test_an_engine_that_is_killed_costs_no_reader_a_character() -> None:
    """P1, P15: ``python -m tests.faults.engines`` does more of it, and freezes them too."""
    rng = random.Random(1)
    async with stand() as (fleet, servers):
        (kill, *_) = engine_faults(servers)
        known = [greedy(servers[0], topic, TOKENS) for topic in ("rivers", "hello 🙂")]
        questions = [draw(rng, known, TOKENS) for _ in range(STREAMS)]
        this = await run_round(fleet, [kill.once()], questions, rng)
        assert this.violations == [], f"logs: {fleet.folder}"
        assert this.injected.total() == 1
        fleet.forget_logs()
