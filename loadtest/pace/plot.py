"""The study's figure."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.ticker import FixedLocator, NullLocator

from loadtest.harness.figures import INK, four_panels
from loadtest.pace.measures import READING, Answer, Measures
from loadtest.pace.runs import Crowd
from loadtest.pace.study import (
    AIMED_AT,
    LENGTHS,
    LOADS,
    PACE,
    POLICIES,
    SPEEDS,
    WINDOW,
    Point,
)

COLOURS = dict(zip(POLICIES, ("#8a8a8a", "#c23b22", "#1b5e9b"), strict=True))
MARKERS = dict(zip(AIMED_AT, ("o", "s"), strict=True))


def draw(file: Path, found: Mapping[Point, Measures], answers: Mapping[str, list[Answer]]) -> None:
    """``answers``: of one crowd, under each policy."""
    with four_panels(file) as panels:
        _waits(panels[0, 0], found)
        _whole(panels[0, 1], answers)
        _experience(panels[1, 0], found)
        _late(panels[1, 1], found)


def _waits(panel: Any, found: Mapping[Point, Measures]) -> None:
    for name, colour in COLOURS.items():
        some = [found[Crowd(load=load), name] for load in LOADS]
        panel.plot(LOADS, [m.ttft_p99_s for m in some], "o-", color=colour, label=f"{name}, p99")
        panel.plot(LOADS, [m.ttft_p50_s for m in some], "o--", color=colour, label="p50")
    panel.set(title="Time to the first token", xlabel="load, in capacities", ylabel="seconds")
    panel.set_yscale("log")
    panel.yaxis.set_major_formatter(lambda y, _: f"{y:g}")
    _finish(panel, LOADS)
    panel.set_ylim(0.05, 1000)
    panel.legend(frameon=False, fontsize=8, ncols=3, loc="upper left")


def _whole(panel: Any, answers: Mapping[str, list[Answer]]) -> None:
    """What long answers pay, beside the time that reading takes."""
    most = 0
    for name, colour in COLOURS.items():
        lengths = [len(answer.arrivals_s) for answer in answers[name]]
        took_s = [answer.took_s for answer in answers[name]]
        panel.plot(lengths, took_s, ".", color=colour, alpha=0.5, markersize=4, label=name)
        most = max(most, *lengths)
    panel.plot([0, most], [0, most / READING], color=INK, linewidth=1, label="reading it")
    panel.set(
        title=f"Question to last token, at {AIMED_AT[0]:g} capacities",
        xlabel="tokens of the answer",
        ylabel="seconds",
    )
    panel.grid(axis="y", color="#e5e5e5")
    panel.set_axisbelow(True)
    panel.legend(frameon=False, fontsize=8)


def _experience(panel: Any, found: Mapping[Point, Measures]) -> None:
    def crowd(load: float, tokens: float) -> Crowd:
        return Crowd(load=load, tokens=int(tokens))

    panel.set_xscale("log")
    panel.set(title="Quality of experience", xlabel="tokens of an answer, mean", ylim=(0, 1.05))
    _lines(panel, found, lambda m: m.experience, crowd, LENGTHS)


def _late(panel: Any, found: Mapping[Point, Measures]) -> None:
    def crowd(load: float, speed: float) -> Crowd:
        return Crowd(load=load, speed=speed)

    panel.set(title="Late tokens", xlabel="tokens a second that a reader reads")
    panel.yaxis.set_major_formatter(lambda y, _: f"{y:.0%}")
    _lines(panel, found, lambda m: m.late, crowd, SPEEDS)


def _lines(
    panel: Any,
    found: Mapping[Point, Measures],
    value: Callable[[Measures], float],
    crowd: Callable[[float, float], Crowd],
    xs: Sequence[float],
) -> None:
    for load, marker in MARKERS.items():
        for name in (WINDOW, PACE):
            panel.plot(
                xs,
                [value(found[crowd(load, x), name]) for x in xs],
                marker=marker,
                color=COLOURS[name],
                label=f"{name}, load {load:g}",
            )
    _finish(panel, xs)
    panel.legend(frameon=False, fontsize=8)


def _finish(panel: Any, xs: Sequence[float]) -> None:
    panel.xaxis.set_major_locator(FixedLocator(list(xs)))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
    panel.grid(axis="y", color="#e5e5e5")
    panel.set_axisbelow(True)
