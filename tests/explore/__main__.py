"""``python -m tests.explore``: every scope, or those named; ``--list`` says which there are."""

import argparse
import multiprocessing
import sys
import time

from tests.explore.bounds import SCOPES, Bounds
from tests.explore.search import Found, Search


def explore(bounds: Bounds) -> Found:
    return Search(bounds).run()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.explore", description=__doc__)
    parser.add_argument("scopes", nargs="*", help="names of scopes; unset: all of them")
    parser.add_argument("--list", action="store_true", help="say what the scopes are")
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    if args.list:
        print("\n".join(bounds.describe() for bounds in SCOPES))
        return 0
    chosen = [bounds for bounds in SCOPES if not args.scopes or bounds.name in args.scopes]
    if not chosen:
        parser.error("no such scope; --list names them")
    began = time.monotonic()
    states = transitions = violations = 0
    with multiprocessing.Pool(args.processes, maxtasksperchild=1) as pool:
        for found in pool.imap_unordered(explore, chosen, chunksize=1):
            print(found.report(), flush=True)
            states += found.states
            transitions += found.transitions
            violations += bool(found.violation)
    took_s = time.monotonic() - began
    print(
        f"{len(chosen)} scopes: {states:,} states, {transitions:,} transitions, "
        f"{violations} violations, {took_s:.0f} s"
    )
    return bool(violations)


if __name__ == "__main__":
    sys.exit(main())
