"""Rounds of streams under faults: one kind a round, all of it drawn from a seed."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from lore.client import Reader
from tests.faults.checker import check_ends
from tests.faults.fleet import Fleet
from tests.faults.kinds import Kind
from tests.faults.readers import READER, Outcome, Question, ask_and_read

SPREAD_S = 1.5
"""Streams begin within this time."""
FAULTS_WITHIN_S = 4.0


@dataclass
class Round:
    kind: Kind
    injected: int = 0
    questions: list[Question] = field(default_factory=list[Question])
    not_ended: list[str] = field(default_factory=list[str])

    def count(self, *outcomes: Outcome) -> int:
        found = Counter(question.outcome for question in self.questions)
        return sum(found[outcome] for outcome in outcomes)

    @property
    def pause_s(self) -> float:
        return max((question.pause_s for question in self.questions), default=0.0)

    @property
    def violations(self) -> list[str]:
        allowed = {Outcome.WHOLE} | ({Outcome.TOLD} if self.kind.may_lose else set())
        wrong = [
            f"request {question.request_id}: {question.outcome}, {question.note}"
            for question in self.questions
            if question.outcome not in allowed
        ]
        return [f"{self.kind.name}: {line}" for line in wrong + self.not_ended]


async def run_round(fleet: Fleet, kind: Kind, streams: int, rng: random.Random) -> Round:
    this = Round(kind)
    this.questions = [Question.draw(rng, number) for number in range(streams)]
    async with Reader(fleet.readers, config=READER) as reader, asyncio.TaskGroup() as tasks:
        tasks.create_task(_inject(fleet, this, random.Random(rng.random())))
        for question in this.questions:
            tasks.create_task(_one(reader, question, random.Random(rng.random())))
    await fleet.settle()
    this.not_ended = await check_ends(fleet.store, this.questions, may_lose=kind.may_lose)
    return this


async def _one(reader: Reader, question: Question, rng: random.Random) -> None:
    await asyncio.sleep(rng.uniform(0, SPREAD_S))
    await ask_and_read(reader, question, rng)


async def _inject(fleet: Fleet, this: Round, rng: random.Random) -> None:
    begin = asyncio.get_running_loop().time()
    for at in sorted(rng.uniform(0.5, FAULTS_WITHIN_S) for _ in range(this.kind.times)):
        await asyncio.sleep(begin + at - asyncio.get_running_loop().time())
        await this.kind.inject(fleet, rng)
        this.injected += 1


async def run_rounds(
    fleet: Fleet, kinds: Sequence[Kind], streams: int, rng: random.Random
) -> AsyncIterator[Round]:
    for kind in kinds:
        yield await run_round(fleet, kind, streams, rng)
