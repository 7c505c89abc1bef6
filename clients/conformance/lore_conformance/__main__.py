"""``python -m lore_conformance --client "node my-client.mjs"``"""

import argparse
import asyncio
import shlex
import sys
from collections.abc import Sequence

from lore_conformance.cases import CASES, Case
from lore_conformance.run import Verdict, judge_all

JOBS = 4


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit status: 0 if the client keeps every MUST rule."""
    parser = argparse.ArgumentParser("lore_conformance", description=__doc__)
    parser.add_argument("--client", help="the client's command, as in a shell")
    parser.add_argument(
        "--case", action="append", metavar="WORDS", help="run only cases whose name contains WORDS"
    )
    parser.add_argument(
        "--jobs", type=int, default=JOBS, help="cases to run at a time (%(default)s)"
    )
    parser.add_argument("--strict", action="store_true", help="SHOULD rules count as well")
    parser.add_argument("--list", action="store_true", help="list the cases, and run none")
    chosen = parser.parse_args(argv)
    wanted = chosen.case or [""]
    cases = [case for case in CASES if any(words in case.name for words in wanted)]
    if chosen.list:
        print("\n".join(map(line, cases)))
        return 0
    if not chosen.client or not cases:
        parser.error("--client is missing, or no case has the name of --case")
    verdicts = asyncio.run(judge_all(cases, shlex.split(chosen.client), chosen.jobs))
    print("\n".join(map(report, verdicts)))
    failed = [one for one in verdicts if not one.passed]
    counted = [one for one in failed if chosen.strict or not one.case.should]
    total = f"{len(verdicts) - len(failed)} of {len(verdicts)} cases passed, {len(counted)} failed"
    broken = len(failed) - len(counted)
    print(f"{total}, {broken} broke only a SHOULD" if broken else total)
    return 1 if counted else 0


def line(case: Case) -> str:
    return f"{case.rule}: {case.name}" + (" (SHOULD)" if case.should else "")


def report(verdict: Verdict) -> str:
    if verdict.passed:
        return f"passed  {line(verdict.case)}"
    word = "SHOULD " if verdict.case.should else "FAILED "
    lines = [f"{word} {line(verdict.case)}", *(f"        {what}" for what in verdict.broken)]
    lines += [f"          {call}" for call in verdict.calls[:20]]
    lines += [f"          | {said}" for said in verdict.stderr.splitlines()[-5:]]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
