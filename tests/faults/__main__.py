"""``python -m tests.faults``: run faults against real processes and say what readers saw."""

import argparse
import random
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence

import uvloop

from lore.logs import configure_logging
from tests.faults.kinds import Kind
from tests.faults.leaks import leaks
from tests.faults.pauses import pauses
from tests.faults.readers import Question
from tests.faults.report import memory_table, table, tell
from tests.faults.run import Round, run_round
from tests.faults.stores import STORES, fleet_on, kinds_of


def plan(
    kinds: Sequence[Kind], streams: int, minutes: float, rng: random.Random
) -> Iterator[tuple[Sequence[Kind], int]]:
    """Each kind once, or for so many minutes up to three at a time."""
    if not minutes:
        yield from (((kind,), streams) for kind in kinds)
        return
    until = time.monotonic() + 60 * minutes
    while time.monotonic() < until:
        yield rng.sample(kinds, min(len(kinds), rng.randint(1, 3))), rng.randint(10, 40)


async def faults(
    store: str, kinds: Sequence[Kind], streams: int, seed: int, minutes: float
) -> bool:
    """Print a line for each round, then the tables. False when something was violated."""
    rng = random.Random(seed)
    rounds: list[Round] = []
    memory: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    async with fleet_on(store) as fleet:
        for chosen, count in plan(kinds, streams, minutes, rng):
            questions = [Question.draw(rng, number) for number in range(count)]
            this = await run_round(fleet, chosen, questions, rng)
            rounds.append(this)
            for part in fleet.parts:
                memory[part.name].append((part.rss_mib(), part.peak_mib()))
            tell(this, fleet.folder)
        violations = sum(len(this.violations) for this in rounds)
        if not violations:
            fleet.forget_logs()
    print(table(rounds), memory_table(memory), f"violations: {violations}", sep="\n\n")
    return not violations


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seed", type=int, help="replay a run; without it, a new one is drawn")
    parser.add_argument("--streams", type=int, default=17, help="in each round")
    parser.add_argument("--minutes", type=float, default=0, help="0: each kind once")
    parser.add_argument("--kind", action="append", help="only these; may be given several times")
    parser.add_argument("--store", choices=(*STORES, "every"), default="single", help="its kind")
    parser.add_argument("--pauses", action="store_true", help="measure what readers wait instead")
    parser.add_argument("--leaks", type=int, metavar="STREAMS", help="measure memory instead")
    options = parser.parse_args()
    configure_logging("faults", "error")
    if options.pauses:
        print(uvloop.run(pauses(options.kind)))
    elif options.leaks:
        print(uvloop.run(leaks(options.leaks)))
    else:
        seed = random.getrandbits(32) if options.seed is None else options.seed
        print(f"seed {seed}", flush=True)
        fine = True
        for store in STORES if options.store == "every" else [options.store]:
            print(f"store: {store}", flush=True)
            kinds = [k for k in kinds_of(store) if not options.kind or k.name in options.kind]
            fine &= uvloop.run(faults(store, kinds, options.streams, seed, options.minutes))
        sys.exit(not fine)


if __name__ == "__main__":
    main()
