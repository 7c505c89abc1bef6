"""Rounds of streams under faults of one kind or of several, all of it drawn from a seed."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from lore_client import Reader
from tests.faults.checker import check_ends, given_up
from tests.faults.fleet import FLOOR_S, Fleet
from tests.faults.kinds import Kind
from tests.faults.readers import READER, Outcome, Question, ask_and_read

SPREAD_S = 1.5
"""Streams begin within this time."""
FAULTS_WITHIN_S = 4.0


@dataclass
class Round:
    kinds: Sequence[Kind]
    questions: list[Question]
    injected: Counter[str] = field(default_factory=Counter[str])
    not_ended: list[str] = field(default_factory=list[str])
    found: list[str] = field(default_factory=list[str])
    """By the injections themselves."""
    given_up: set[str] = field(default_factory=set[str])
    """Requests whose answers a full store gave up as it may (P17)."""

    @property
    def name(self) -> str:
        return " + ".join(kind.name for kind in self.kinds)

    @property
    def may_lose(self) -> bool:
        kinds = self.kinds
        is_unwritten = any(one.fills_disk for one in kinds) and any(one.ends_store for one in kinds)
        return is_unwritten or any(kind.may_lose for kind in kinds)

    @property
    def pause_s(self) -> float:
        return max((question.pause_s for question in self.questions), default=0.0)

    @property
    def violations(self) -> list[str]:
        allowed = {Outcome.WHOLE} | ({Outcome.TOLD} if self.may_lose else set())
        wrong = [
            f"request {question.request_id}: {question.outcome}, {question.note}"
            for question in self.questions
            if question.outcome not in allowed
            and not (question.outcome is Outcome.TOLD and question.request_id in self.given_up)
        ]
        return [f"{self.name}: {line}" for line in wrong + self.not_ended + self.found]


Ask = Callable[[Any, random.Random], Awaitable[None]]
"""Asks a question, reads to its end, sets its ``outcome``, and raises nothing."""


async def run_round(
    fleet: Fleet,
    kinds: Sequence[Kind],
    questions: Sequence[Question],
    rng: random.Random,
    ask: Ask | None = None,
) -> Round:
    """All questions are asked and read to their end while the faults happen, one after another:
    by the Python client, or as ``ask`` does."""
    this = Round(kinds, list(questions))
    fleet.questions, fleet.found = this.questions, this.found
    lost = await fleet.leases_lost()
    async with Reader(fleet.readers, config=READER) as reader, asyncio.TaskGroup() as tasks:
        tasks.create_task(_inject(fleet, this, random.Random(rng.random())))
        for question in questions:
            one = random.Random(rng.random())
            tasks.create_task(_one(ask or partial(ask_and_read, reader), question, one))
    await fleet.settle()
    lost = await fleet.leases_lost() - lost
    if lost and all(kind.keeps_owners for kind in kinds):
        this.found.append(f"{lost} requests were taken from generators that live (P15)")
    if any(kind.gives_up for kind in kinds):
        this.given_up = await given_up(fleet.store, this.questions, floor_s=FLOOR_S)
    others = [one for one in this.questions if one.request_id not in this.given_up]
    this.not_ended = await check_ends(fleet.store, others, may_lose=this.may_lose)
    return this


async def _one(ask: Ask, question: Question, rng: random.Random) -> None:
    await asyncio.sleep(rng.uniform(0, SPREAD_S))
    await ask(question, rng)


async def _inject(fleet: Fleet, this: Round, rng: random.Random) -> None:
    loop = asyncio.get_running_loop()
    begin = loop.time()
    plan = [
        (rng.uniform(0.5, FAULTS_WITHIN_S), number, kind)
        for number, kind in enumerate(kind for kind in this.kinds for _ in range(kind.times))
    ]
    for at, _, kind in sorted(plan, key=lambda planned: planned[:2]):
        await asyncio.sleep(begin + at - loop.time())
        await kind.inject(fleet, rng)
        this.injected[kind.name] += 1
