"""Readers of known answers: each compares what it is given, character by character."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from lore.request import StreamRequest
from lore_client import (
    HistoryLost,
    LoreError,
    Reader,
    ReaderConfig,
    Refused,
    Stream,
    Text,
    Unavailable,
)
from lore_generator.engines.synthetic_text import synthetic_answer

READER = ReaderConfig(silence_s=4.0, call_timeout_s=4.0, patience_s=90.0)
"""Patient for longer than any fault lasts."""
STREAM_S = 120.0
"""Longer than any fault lasts, with all that it takes to recover from it."""


class Outcome(StrEnum):
    WHOLE = "whole"
    LOST = "lost"
    DOUBLED = "doubled"
    REORDERED = "reordered"
    STUCK = "stuck"
    FAILED = "failed"
    TOLD = "history_lost"  # the reader was told explicitly that its text cannot go on
    REFUSED = "refused"  # never accepted


@dataclass
class Question:
    """A request and the reference that its readers' text is compared with."""

    messages: list[dict[str, str]]
    parameters: dict[str, Any]
    seed: int
    answer: str
    request_id: str = ""
    outcome: Outcome = Outcome.STUCK
    note: str = ""
    pause_s: float = 0.0
    """The longest silence between two pieces of text."""
    is_read: bool = False
    """Whether text has come, and the end has not."""
    was_hit: bool = False
    """Whether it was being read when something was done to the store."""

    @property
    def was_asked(self) -> bool:
        return bool(self.request_id) or self.outcome is Outcome.REFUSED

    @classmethod
    def draw(cls, rng: random.Random, number: int, **more: Any) -> "Question":
        """One that the synthetic engine answers. ``more`` are parameters of ``StreamRequest``."""
        ack = rng.choices(("client", "socket", "none"), (8, 1, 1))[0]
        parameters: dict[str, Any] = {"ack": ack} | more
        if ack == "client" and rng.random() < 0.2:
            parameters["window"] = rng.choice((8, 16, 64))
        messages = [{"role": "user", "content": f"What is the number {number}?"}]
        seed = rng.getrandbits(32)
        asked = StreamRequest.model_validate({"messages": messages, "seed": seed} | parameters)
        return cls(messages, parameters, seed, "".join(synthetic_answer(asked)))


async def ask_alone(
    edges: Sequence[str], text: str, *, api_key: str | None = None, **parameters: Any
) -> Question:
    """A question whose answer is what it gets while nothing else happens. Greedily sampled,
    it is the same at any other time."""
    messages = [{"role": "user", "content": text}]
    greedy: dict[str, Any] = {"ack": "client", "temperature": 0.0} | parameters
    async with Reader(edges, config=READER, api_key=api_key) as reader:
        asked = await reader.create(messages=messages, seed=0, **greedy)
        stream = reader.stream(asked.request_id)
        answer = "".join([event.text async for event in stream if isinstance(event, Text)])
    return Question(messages, greedy, 0, answer)


class Wrong(Exception):
    """The text differs from the reference."""

    def __init__(self, outcome: Outcome, position: int) -> None:
        super().__init__(f"differs at character {position}")
        self.outcome = outcome


def compare(text: str, answer: str) -> None:
    """Raises Wrong unless ``text`` is a prefix of the answer (P1)."""
    if answer.startswith(text):
        return
    at = next(i for i in range(len(text)) if not answer.startswith(text[: i + 1]))
    raise Wrong(_kind_of(text[at:], answer, at), at)


def _kind_of(rest: str, answer: str, at: int) -> Outcome:
    """What went wrong, by where the text that follows is found in the answer."""
    found = answer.find(rest[:24])
    if found > at:
        return Outcome.LOST
    return Outcome.DOUBLED if 0 <= found < at else Outcome.REORDERED


async def ask_and_read(reader: Reader, question: Question, rng: random.Random) -> None:
    """Sets the question's ``outcome``; never raises."""
    try:
        asked = await reader.create(
            messages=question.messages, seed=question.seed, **question.parameters
        )
    except LoreError as error:
        question.outcome, question.note = Outcome.REFUSED, str(error)
        return
    question.request_id = asked.request_id
    await read_answer(reader, question, rng)


async def read_answer(reader: Reader, question: Question, rng: random.Random) -> None:
    """Of a request that was accepted. Sets the question's ``outcome``; never raises."""
    try:
        async with asyncio.timeout(STREAM_S):
            text = await _read(reader, question, rng)
    except TimeoutError:
        question.note = f"no end within {STREAM_S:g} s"
    except Wrong as wrong:
        question.outcome, question.note = wrong.outcome, str(wrong)
    except (HistoryLost, Refused) as error:
        question.outcome, question.note = Outcome.TOLD, str(error)
    except Unavailable as error:
        question.note = str(error)
    except LoreError as error:
        question.outcome, question.note = Outcome.FAILED, str(error)
    else:
        whole = text == question.answer
        question.outcome = Outcome.WHOLE if whole else Outcome.LOST
    finally:
        question.is_read = False


async def _read(reader: Reader, question: Question, rng: random.Random) -> str:
    """To the end, perhaps leaving once on the way: to come back there, or to read it all again."""
    leaves_at = rng.randint(1, len(question.answer)) if rng.random() < 0.4 else None
    slow_s = 0.05 if rng.random() < 0.1 else 0.0
    stream = _stream(reader, question)
    text = await _take(stream, question, "", leaves_at, slow_s)
    if leaves_at is not None and len(text) >= leaves_at:
        position, log_id = stream.position, stream.log_id
        await stream.aclose()
        if rng.random() < 0.5:
            stream, text = _stream(reader, question), ""
        else:
            stream = _stream(reader, question, after=position, log_id=log_id)
        text = await _take(stream, question, text, None, slow_s)
    return text


def _stream(reader: Reader, question: Question, **where: Any) -> Stream:
    acks = question.parameters["ack"] == "client"
    return reader.stream(question.request_id, acks=acks, **where)


async def _take(
    stream: Stream, question: Question, text: str, stop_at: int | None, slow_s: float
) -> str:
    loop = asyncio.get_running_loop()
    last = loop.time()
    async for event in stream:
        if not isinstance(event, Text):
            continue
        now = loop.time()
        question.pause_s, last = max(question.pause_s, now - last), now
        text += event.text
        question.is_read = True
        compare(text, question.answer)
        if stop_at is not None and len(text) >= stop_at:
            break
        if slow_s:
            await asyncio.sleep(slow_s)
            last = loop.time()
    return text
