"""The same crowds for real: Valkey, an edge, a generator, and readers over SSE.

A model on a CPU is slower than people read. So its readers, their pace, the lead and the
steps are as much slower or smaller as its slots are slower than 20 tokens a second.
"""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from typing import Any

from loadtest.harness import taps
from loadtest.harness.prompts import GREEDY, prompts_of
from loadtest.harness.record import Report
from loadtest.harness.stage import Stage
from loadtest.pace.measures import Answer, measure
from loadtest.pace.readers import Question, answers, read_all
from loadtest.pace.runs import Crowd
from loadtest.pace.study import AIMED_AT, FIRST_COME, HEAD, PACE, POLICIES, WINDOW, row
from lore.protocol.pace_types import PaceConfig

LIMIT_S = 600.0
"""For one turn of one policy."""
USUAL = Crowd()
CALIBRATION_TOKENS = 48
CALIBRATION_TURN = 1000
QUIET_SHARE = 0.8
"""Of the slots: so many readers ask at once, and nobody waits."""
PATIENT = {"store_lost_s": 600.0, "silence_s": 40.0}
"""A busy machine is no outage: nobody is sent elsewhere, and no lease lapses."""


@dataclass(frozen=True)
class Setup:
    crowd: Crowd
    settings: dict[str, Any]
    """Of the generator."""
    sampling: dict[str, Any]


SETUPS = {
    "synthetic": Setup(
        replace(USUAL, tokens=75),
        {"engine": "synthetic", "synthetic_rate": USUAL.rate, "synthetic_length": 4096},
        {},
    ),
    "smollm2": Setup(
        Crowd(tokens=64, answers=32, slots=8, burst=8),
        {"engine": "transformers", "threads": 2},
        GREEDY,
    ),
}


class Stack:
    """Valkey, a generator and an edge."""

    def __init__(self, port: int, sampling: dict[str, Any]) -> None:
        self._port = port
        self._sampling = sampling

    @classmethod
    async def start(cls, stage: Stage, setup: Setup, **settings: Any) -> "Stack":
        leases = {"lease_s": PATIENT["store_lost_s"]}
        await stage.generator(slots=setup.crowd.slots, **setup.settings, **leases, **settings)
        _, port = await stage.edge(**PATIENT)
        return cls(port, setup.sampling)

    async def turn(self, crowd: Crowd, number: int, **parameters: Any) -> list[Answer]:
        """All answers of a crowd. ``number``: of the turn, which decides the questions."""
        prompts = prompts_of(number, crowd.answers)
        each = zip(crowd.times_s(), prompts, crowd.lengths(), strict=True)
        questions = [Question(*one) for one in each]
        asked = self._sampling | parameters
        readers = await read_all(self._port, questions, asked, speed=crowd.speed, limit_s=LIMIT_S)
        return answers(readers)


async def calibrated(stack: Stack, crowd: Crowd) -> Crowd:
    """The crowd with the speed of the engine's slots, and of readers beside them."""
    tried = replace(crowd, answers=crowd.slots, burst=crowd.slots, tokens=CALIBRATION_TOKENS)
    found = await stack.turn(tried, CALIBRATION_TURN, ack="none")
    rate = median(map(_speed, sorted(found, key=_length)[len(found) // 2 :]))
    return replace(crowd, rate=rate, speed=rate * USUAL.speed / USUAL.rate)


def _speed(answer: Answer) -> float:
    return (_length(answer) - 1) / (answer.arrivals_s[-1] - answer.arrivals_s[0])


def _length(answer: Answer) -> int:
    return len(answer.arrivals_s)


def crowds(crowd: Crowd) -> Iterator[tuple[str, Crowd]]:
    """Each with its name. Nobody waits in the first."""
    quiet = round(crowd.slots * QUIET_SHARE)
    yield f"{quiet} readers at once", replace(crowd, answers=quiet, burst=quiet)
    for load in AIMED_AT:
        yield f"{load:g}", replace(crowd, load=load)


async def run(name: str, *, dry: bool) -> None:
    """Alternates the policies, crowd by crowd."""
    taps.raise_file_limit()
    setup, config = SETUPS[name], PaceConfig()
    report = Report(f"Pace, for real: {name}", f"python -m loadtest.pace --real {name}")
    rows: list[list[str]] = []
    async with Stage() as plain_stage, Stage() as paced_stage:
        plain = await Stack.start(plain_stage, setup, pacing="off")
        crowd = setup.crowd
        if "synthetic_rate" not in setup.settings:
            crowd = await calibrated(plain, crowd)
        scale = crowd.speed / USUAL.speed
        step = max(2, round(config.step_tokens * scale))
        lead = max(2 * step, round(config.lead_tokens * scale))
        paced = await Stack.start(paced_stage, setup, pace_lead=lead, pace_step=step)
        pace = config.tokens_per_s * scale
        report.say(_conditions(crowd, pace, lead, step))
        tried = replace(crowd, answers=crowd.slots, burst=crowd.slots, tokens=CALIBRATION_TOKENS)
        await paced.turn(tried, CALIBRATION_TURN)  # as the other: what is done once is done
        turns: dict[str, Callable[[Crowd, int], Awaitable[list[Answer]]]] = {
            FIRST_COME: partial(plain.turn, ack="none"),
            WINDOW: plain.turn,
            PACE: partial(paced.turn, pace=pace),
        }
        for number, (label, some) in enumerate(crowds(crowd)):
            shift = number % len(POLICIES)
            # Each turn has questions of its own: an engine that has read a prompt reads it faster.
            found = {
                policy: measure(
                    await turns[policy](some, number * len(POLICIES) + place), some.speed
                )
                for place, policy in enumerate(POLICIES[shift:] + POLICIES[:shift])
            }
            for policy in POLICIES:
                rows.append([label, *row(policy, found[policy], found[WINDOW])])
                print(" | ".join(rows[-1]), flush=True)
    report.table(("load", *HEAD), rows)
    report.publish(keep=not dry)


def _conditions(crowd: Crowd, pace: float, lead: int, step: int) -> str:
    arrivals = f"in bursts of {crowd.burst}" if crowd.burst > 1 else "Poisson arrivals"
    return (
        f"{crowd.answers} readers, {arrivals}; {crowd.slots} slots of {crowd.rate:.1f} tokens a "
        f"second, answers of at most {crowd.tokens} tokens on average. Each reader acknowledges "
        f"over HTTP what it has read, {crowd.speed:.1f} tokens a second. Pace {pace:.1f}, lead "
        f"{lead}, steps of {step}. The policies take turns, each with questions of its own. Ratios "
        "are to the window alone."
    )
