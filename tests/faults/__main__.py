"""``python -m tests.faults``: run faults against real processes and say what readers saw."""

import argparse
import random
import sys
import time

import uvloop

from lore.logs import configure_logging
from tests.faults.fleet import Fleet
from tests.faults.kinds import KINDS, Kind
from tests.faults.readers import Outcome
from tests.faults.report import row, table
from tests.faults.run import Round, run_round


async def faults(kinds: list[Kind], streams: int, seed: int, minutes: float) -> list[Round]:
    """Every kind once, or for so many minutes in any order."""
    rng = random.Random(seed)
    rounds: list[Round] = []
    until = time.monotonic() + 60 * minutes
    async with Fleet() as fleet:
        while True:
            for kind in rng.sample(kinds, len(kinds)) if minutes else kinds:
                rounds.append(await run_round(fleet, kind, streams, rng))
                print("  ".join(row(kind.name, rounds[-1:])), flush=True)
                for question in rounds[-1].questions:
                    if question.outcome is not Outcome.WHOLE:
                        print(f"  {question.request_id} {question.outcome}: {question.note}")
                for line in rounds[-1].violations:
                    print(f"  VIOLATION {line}", flush=True)
                if rounds[-1].violations:
                    print(f"  logs: {fleet.folder}", flush=True)
            if time.monotonic() >= until:
                return rounds


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--streams", type=int, default=17, help="in each round")
    parser.add_argument("--minutes", type=float, default=0, help="0: each kind once")
    parser.add_argument("--kind", action="append", help="only these; may be given several times")
    options = parser.parse_args()
    seed = random.getrandbits(32) if options.seed is None else options.seed
    kinds = [kind for kind in KINDS if not options.kind or kind.name in options.kind]
    configure_logging("faults", "error")
    print(f"seed {seed}", flush=True)
    rounds = uvloop.run(faults(kinds, options.streams, seed, options.minutes))
    print(table(rounds))
    violations = [line for one in rounds for line in one.violations]
    print(f"violations: {len(violations)}")
    sys.exit(bool(violations))


if __name__ == "__main__":
    main()
