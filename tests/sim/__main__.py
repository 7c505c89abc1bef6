"""``python -m tests.sim --runs N`` searches, ``python -m tests.sim --seed N`` replays one."""

import argparse
import multiprocessing
import sys
import time
from collections import Counter
from dataclasses import fields

from tests.sim.faults import Options
from tests.sim.run import Result, simulate

SHOWN = 20


def describe(options: Options) -> str:
    """What differs from the defaults."""
    chosen = {f.name: getattr(options, f.name) for f in fields(Options)}
    return ", ".join(f"{k}={v!r}" for k, v in chosen.items() if v != getattr(Options(), k))


def replay(seed: int) -> int:
    result = simulate(seed, trace=print)
    print(f"\nseed {seed}: {describe(result.options)}")
    print(f"{result.virtual_s:.1f} virtual seconds, {result.events} events")
    print(", ".join(f"{kind} {count}" for kind, count in sorted(result.injected.items())))
    print(f"VIOLATION {result.violation}" if result.violation else "no violation")
    return bool(result.violation)


def search(first: int, runs: int, processes: int) -> int:
    began = time.monotonic()
    injected: Counter[str] = Counter()
    virtual_s, events, violations = 0.0, 0, 0
    with multiprocessing.Pool(processes) as pool:
        seeds = range(first, first + runs)
        result: Result
        for result in pool.imap_unordered(simulate, seeds, chunksize=16):
            injected += result.injected
            virtual_s += result.virtual_s
            events += result.events
            if result.violation:
                violations += 1
                if violations <= SHOWN:
                    print(f"seed {result.seed}: {result.violation}")
                    print(f"    {describe(result.options)}", flush=True)
    took_s = time.monotonic() - began
    print(
        f"{runs} runs from seed {first} in {took_s:.0f} s ({runs / took_s:.0f} a second), "
        f"{virtual_s / 3600:.1f} virtual hours, {events} events"
    )
    for kind, count in sorted(injected.items()):
        print(f"  {count:>9} {kind}")
    print(f"{violations} violations; replay one with: python -m tests.sim --seed N")
    return bool(violations)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seed", type=int, help="replay this run with a trace")
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--first", type=int, help="the first seed; unset: a fresh one")
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    if args.seed is not None:
        return replay(args.seed)
    first = int(time.time()) if args.first is None else args.first
    return search(first, args.runs, args.processes)


if __name__ == "__main__":
    sys.exit(main())
