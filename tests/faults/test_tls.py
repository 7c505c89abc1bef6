"""A store behind TLS under real readers, in the short form that each test run takes."""

import random

import pytest

from tests.faults.kinds import KINDS
from tests.faults.readers import Question
from tests.faults.run import run_round
from tests.faults.stores import TlsFleet

SEED = 1
STREAMS = 24
NAMES = ("valkey kill -9", "network reset")


@pytest.mark.rule("P1.1")
@pytest.mark.faults
async def test_no_fault_of_a_store_behind_tls_costs_a_reader_a_character() -> None:
    rng = random.Random(SEED)
    kinds = [kind for kind in KINDS if kind.name in NAMES]
    assert len(kinds) == len(NAMES)
    async with TlsFleet() as fleet:
        questions = [Question.draw(rng, number) for number in range(STREAMS)]
        this = await run_round(fleet, kinds, questions, rng)
        assert this.violations == [], f"logs: {fleet.folder}"
        assert this.injected.keys() == set(NAMES)
        fleet.forget_logs()
