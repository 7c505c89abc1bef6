"""The study in virtual time: which crowds, under which policies, and the tables of what came of it.

Each figure is the median of some crowds that differ by their seed alone.
"""

import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, replace
from statistics import median

from loadtest.harness.record import Report, ratio
from loadtest.pace.measures import Answer, Measures, measure
from loadtest.pace.runs import Crowd, InOrder, Paced, Policy, simulate
from lore.protocol.pace_types import PaceConfig

FIRST_COME, WINDOW, PACE = "first come, first served", "window", "window and pace"
POLICIES = (FIRST_COME, WINDOW, PACE)
LOADS = (0.8, 1.0, 1.2, 1.5, 2.0)
LENGTHS = (75, 150, 300, 600)
SPEEDS = (4.0, 7.0, 10.0, 14.0)
AIMED_AT = (1.2, 1.5)
"""The loads at which length and speed are varied."""
HEAD = (
    "policy",
    "TTFT p50 s",
    "p99 s",
    "ratios",
    "late tokens",
    "QoE",
    "effective tokens/s",
    "the last of all",
    "slowest 1 %",
    "longest 10 %",
)

Point = tuple[Crowd, str]


def policy(crowd: Crowd, name: str) -> Policy:
    if name == PACE:
        config = PaceConfig()
        return Paced(slots=crowd.slots, config=config, pace=config.tokens_per_s)
    return InOrder(slots=crowd.slots, window=name == WINDOW)


def run(point: Point) -> list[Answer]:
    crowd, name = point
    return simulate(crowd, policy(crowd, name))


def measured(point: Point) -> Measures:
    return measure(run(point), point[0].speed)


def crowds() -> list[Crowd]:
    """Over the load, and over length and speed at the loads aimed at; each once."""
    by_load = [Crowd(load=load) for load in LOADS]
    by_length = [Crowd(load=load, tokens=tokens) for load in AIMED_AT for tokens in LENGTHS]
    by_speed = [Crowd(load=load, speed=speed) for load in AIMED_AT for speed in SPEEDS]
    return list(dict.fromkeys([*by_load, *by_length, *by_speed]))


def study(seeds: int, processes: int) -> dict[Point, Measures]:
    """Every crowd under every policy. The keys' crowds have the seed 0."""
    points = [(crowd, name) for crowd in crowds() for name in POLICIES]
    jobs = [(replace(crowd, seed=seed), name) for crowd, name in points for seed in range(seeds)]
    with multiprocessing.Pool(processes) as pool:
        found = pool.map(measured, jobs, chunksize=1)
    return {
        point: middle(found[number * seeds : (number + 1) * seeds])
        for number, point in enumerate(points)
    }


def middle(some: Sequence[Measures]) -> Measures:
    return Measures(*map(median, zip(*map(astuple, some), strict=True)))


def row(name: str, found: Measures, window: Measures) -> list[str]:
    """Ratios are to the window alone."""
    pairs = (found.ttft_p50_s, window.ttft_p50_s), (found.ttft_p99_s, window.ttft_p99_s)
    return [
        name,
        f"{found.ttft_p50_s:.2f}",
        f"{found.ttft_p99_s:.2f}",
        " and ".join(ratio(*pair) for pair in pairs),
        f"{found.late:.1%}",
        f"{found.experience:.2f}",
        f"{found.effective:,.0f}",
        f"{found.makespan_s:.0f} s, {ratio(found.makespan_s, window.makespan_s)}",
        f"{found.slowest_s:.0f} s, {ratio(found.slowest_s, window.slowest_s)}",
        f"{found.long_s:.0f} s, {ratio(found.long_s, window.long_s)}",
    ]


def tell(report: Report, found: Mapping[Point, Measures]) -> None:
    """All tables."""
    _table(report, found, "load", [Crowd(load=load) for load in LOADS], lambda c: f"{c.load:g}")
    for load in AIMED_AT:
        report.say(f"At {load:g} times the capacity, by the mean length of answers in tokens:")
        by_length = [Crowd(load=load, tokens=tokens) for tokens in LENGTHS]
        _table(report, found, "tokens", by_length, lambda c: str(c.tokens))
        report.say(f"At {load:g} times the capacity, by what readers read in tokens a second:")
        by_speed = [Crowd(load=load, speed=speed) for speed in SPEEDS]
        _table(report, found, "reading", by_speed, lambda c: f"{c.speed:g}")


def _table(
    report: Report,
    found: Mapping[Point, Measures],
    head: str,
    some: Sequence[Crowd],
    label: Callable[[Crowd], str],
) -> None:
    report.table(
        (head, *HEAD),
        [
            [label(crowd), *row(name, found[crowd, name], found[crowd, WINDOW])]
            for crowd in some
            for name in POLICIES
        ],
    )
