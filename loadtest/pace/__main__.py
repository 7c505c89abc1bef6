"""What pace is worth: how soon readers have text, and who pays, in virtual time and for real.

In virtual time, the real window and the real pace decide; clock, readers and engine are simulated,
so the figures are the same on every machine. With ``--real``, there are a Valkey, an edge, a
generator, and readers who acknowledge over HTTP what they have read.

Usage: python -m loadtest.pace [--plot docs/pace.png] [--dry]
       python -m loadtest.pace --real synthetic|smollm2 [--dry]
"""

import argparse
from pathlib import Path

import uvloop

from loadtest.harness.record import Report
from loadtest.pace import real
from loadtest.pace.plot import draw
from loadtest.pace.runs import Crowd
from loadtest.pace.study import AIMED_AT, POLICIES, run, study, tell

COMMAND = "python -m loadtest.pace"


def virtual(chosen: argparse.Namespace) -> None:
    found = study(chosen.seeds, chosen.processes)
    usual = Crowd()
    report = Report("Pace, in virtual time", COMMAND)
    report.say(
        f"{usual.slots} slots of {usual.rate:g} tokens a second, {usual.answers} answers of "
        f"{usual.tokens} tokens on average (exponential, cut at 2.7 times the mean), Poisson "
        f"arrivals, readers of {usual.speed:g} tokens a second; medians of {chosen.seeds} seeds. "
        "Ratios are to the window alone."
    )
    tell(report, found)
    if chosen.plot:
        crowd = Crowd(load=AIMED_AT[0])
        draw(chosen.plot, found, {name: run((crowd, name)) for name in POLICIES})
    report.publish(keep=not chosen.dry)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plot", type=Path, help="write the figure here")
    parser.add_argument("--real", choices=tuple(real.SETUPS), help="with this engine")
    parser.add_argument("--seeds", type=int, default=3, help="crowds of each kind; medians count")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--dry", action="store_true", help="print only; leave RESULTS.md alone")
    chosen = parser.parse_args()
    if chosen.real:
        uvloop.run(real.run(chosen.real, dry=chosen.dry))
    else:
        virtual(chosen)


if __name__ == "__main__":
    main()
