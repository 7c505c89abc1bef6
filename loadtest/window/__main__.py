"""Why the window starts at 32 tokens and doubles up to 1,024: the simulator's answer.

Each point is one answer under one policy: how long the engine stood still for the window while
a healthy reader read, and what it made for a reader who had left. Virtual time, so nothing
depends on the machine, and the same every time.

Usage: python -m loadtest.window [--plot docs/window.png]
"""

import argparse
import multiprocessing
from functools import partial
from pathlib import Path as File

from loadtest.harness.record import Report
from loadtest.window.plot import draw
from loadtest.window.runs import DEFAULT, POLICIES, Path, Policy, Run, absent, healthy, slow

RTTS_S = (0.001, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 1.0)
RATES = (5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0)
USUAL_RATE = 50.0
USUAL_RTT_S = 0.2
LONG_TOKENS = 4000
"""More than any window: what an absent reader costs is not bound by the answer's end."""
ABSENT = (
    Path(0.05, 50.0, LONG_TOKENS),
    Path(0.5, 50.0, LONG_TOKENS),
    Path(0.5, 500.0, LONG_TOKENS),
)
SLOW_EVERY_S = 0.25
HEAD = (
    "window",
    "rtt ms",
    "tokens/s",
    "stalls",
    "stalled s",
    "of the time",
    "starved s",
    "grew to",
)

Job = partial[Run]
Point = tuple[Policy, Path]


def simulate_all(jobs: dict[Point, Job], processes: int) -> dict[Point, Run]:
    with multiprocessing.Pool(processes) as pool:
        waiting = {point: pool.apply_async(job) for point, job in jobs.items()}
        return {point: result.get() for point, result in waiting.items()}


def healthy_points() -> list[Point]:
    """The whole plane for the default, a cross through its middle for every policy."""
    cross = [Path(rtt_s, USUAL_RATE) for rtt_s in RTTS_S]
    cross += [Path(USUAL_RTT_S, rate) for rate in RATES]
    plane = [Path(rtt_s, rate) for rtt_s in RTTS_S for rate in RATES]
    points = [(policy, path) for policy in POLICIES for path in cross]
    return list(dict.fromkeys([*points, *((DEFAULT, path) for path in plane)]))


def healthy_row(policy: Policy, path: Path, run: Run) -> list[str]:
    return [
        policy.name,
        f"{path.rtt_s * 1000:g}",
        f"{path.rate:g}",
        str(run.stalls),
        f"{run.stalled_s:.2f}",
        f"{run.stalled_share:.1%}",
        f"{run.starved_s:.2f}",
        f"{run.window:,}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plot", type=File, help="write the figure here")
    parser.add_argument("--processes", type=int, default=2)
    chosen = parser.parse_args()
    everything = simulate_all(
        {point: partial(healthy, *point) for point in healthy_points()}, chosen.processes
    )
    gone = simulate_all(
        {(policy, path): partial(absent, policy, path) for policy in POLICIES for path in ABSENT},
        chosen.processes,
    )
    crawl = Path(0.05, USUAL_RATE)
    crawling = simulate_all(
        {(policy, crawl): partial(slow, policy, crawl, SLOW_EVERY_S) for policy in POLICIES},
        chosen.processes,
    )
    report = Report("The window", "python -m loadtest.window")
    report.say(f"A healthy reader of {crawl.tokens:,} tokens, at three places of the plane:")
    shown = (Path(0.03, USUAL_RATE), Path(0.5, USUAL_RATE), Path(USUAL_RTT_S, 500.0))
    report.table(
        HEAD,
        [healthy_row(p, path, everything[p, path]) for path in shown for p in POLICIES],
    )
    report.say("The default over the whole plane, seconds stalled (and what a person starves):")
    report.table(
        ("rtt ms", *(f"{rate:g} tokens/s" for rate in RATES)),
        [
            [f"{rtt_s * 1000:g}", *(_cell(everything, rtt_s, rate) for rate in RATES)]
            for rtt_s in RTTS_S
        ],
    )
    report.say("Tokens made for a reader who left in the middle of a long answer:")
    report.table(
        ("window", *(f"{path.rtt_s * 1000:g} ms, {path.rate:g} tokens/s" for path in ABSENT)),
        [[p.name, *(f"{gone[p, path].wasted:,}" for path in ABSENT)] for p in POLICIES],
    )
    report.say(f"A reader who takes a chunk every {SLOW_EVERY_S:g} s, 50 ms away:")
    report.table(
        ("window", "most tokens ahead", "parked", "grew to"),
        [
            [p.name, f"{run.lead:,}", f"{run.stalls} times", f"{run.window:,}"]
            for (p, _), run in crawling.items()
        ],
    )
    if chosen.plot:
        draw(chosen.plot, everything, gone, RTTS_S, RATES, (USUAL_RTT_S, USUAL_RATE), ABSENT)


def _cell(runs: dict[Point, Run], rtt_s: float, rate: float) -> str:
    run = runs[DEFAULT, Path(rtt_s, rate)]
    if not run.stalls:
        return "0"
    return f"{run.stalled_s:.2f}" + (f" ({run.starved_s:.2f})" if run.starved_s >= 0.005 else "")


if __name__ == "__main__":
    main()
