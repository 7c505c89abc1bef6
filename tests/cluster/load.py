"""Readers that ask all the while: as soon as one has its answer it asks the next question."""

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Callable
from typing import Self

from lore_client import Reader
from tests.cluster.release import Release
from tests.faults.readers import READER, Outcome, Question, ask_and_read

STREAMS = 20
LIVE_S = 60.0


class Load:
    """Live streams for as long as the context lasts; what was asked is read to its end after."""

    def __init__(
        self,
        release: Release,
        streams: int = STREAMS,
        seed: int = 1,
        draw: Callable[[random.Random, int], Question] = Question.draw,
    ) -> None:
        self._release = release
        self._streams = streams
        self._draw = draw
        self._rng = random.Random(seed)
        self._numbers = itertools.count()
        self._over = False
        self.questions: list[Question] = []

    async def __aenter__(self) -> Self:
        url, key = await asyncio.to_thread(lambda: (self._release.url, self._release.api_key))
        self._reader = Reader([url], config=READER, api_key=key)
        self._tasks = [
            asyncio.create_task(self._ask_on(random.Random(self._rng.random())))
            for _ in range(self._streams)
        ]
        async with asyncio.timeout(LIVE_S):
            while sum(bool(question.pause_s) for question in self.questions) < self._streams:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._over = True
        await asyncio.wait(self._tasks)
        await self._reader.__aexit__()

    async def _ask_on(self, rng: random.Random) -> None:
        while not self._over:
            question = self._draw(rng, next(self._numbers))
            self.questions.append(question)
            await ask_and_read(self._reader, question, rng)

    @property
    def ended(self) -> int:
        """Answers that were read to their end."""
        return sum(question.outcome is Outcome.WHOLE for question in self.questions)

    @property
    def violations(self) -> list[str]:
        return [
            f"request {question.request_id}: {question.outcome}, {question.note}"
            for question in self.questions
            if question.outcome is not Outcome.WHOLE
        ]

    @property
    def pause_s(self) -> float:
        """The longest silence between two pieces of text."""
        return max(question.pause_s for question in self.questions)

    def report(self, what: str) -> None:
        found = Counter(str(question.outcome) for question in self.questions)
        print(f"\n{what}: {dict(found)}, longest pause {self.pause_s:.1f} s", flush=True)
