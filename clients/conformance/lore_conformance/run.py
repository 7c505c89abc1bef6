"""Runs a client on a case, and checks what it did and printed."""

import asyncio
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lore_conformance.answer import QUESTION, Answer
from lore_conformance.cases import Case
from lore_conformance.stand import Seen, Stand

LIMIT_S = 120.0


@dataclass(frozen=True, slots=True)
class Verdict:
    case: Case
    broken: tuple[str, ...]
    """What went wrong; empty if the client passed."""
    calls: tuple[str, ...]
    stderr: str

    @property
    def passed(self) -> bool:
        return not self.broken


async def judge(case: Case, client: Sequence[str], *, to_the_end: bool = True) -> Verdict:
    """``to_the_end``: let the client run to its end even after it has broken a rule."""
    async with Stand(case) as stand:
        seen = stand.seen
        out, err, late = await _run(client, stand, seen.failed if not to_the_end else None)
        if to_the_end or not seen.broken:
            _check(case, seen, out, late=late)
    return Verdict(case, tuple(dict.fromkeys(seen.broken)), tuple(seen.calls), err)


async def _run(
    client: Sequence[str], stand: Stand, failed: asyncio.Event | None
) -> tuple[str, str, bool]:
    """Return its output, its errors, and whether it had to be killed."""
    told = {"LORE_EDGES": " ".join(stand.urls), "LORE_QUESTION": QUESTION}
    told |= {"LORE_API_KEY": stand.case.key} if stand.case.key else {}
    outside = {name: value for name, value in os.environ.items() if not name.startswith("LORE_")}
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *client, env=outside | told, stdout=pipe, stderr=pipe
    )
    reading = asyncio.create_task(process.communicate())
    waits: list[asyncio.Task[Any]] = [reading]
    if failed is not None:
        waits.append(asyncio.create_task(failed.wait()))
    await asyncio.wait(waits, timeout=LIMIT_S, return_when=asyncio.FIRST_COMPLETED)
    late = not reading.done()
    if late:
        process.kill()
    for wait in waits[1:]:
        wait.cancel()
    out, err = await reading
    return out.decode(errors="replace"), err.decode(errors="replace"), late


def _check(case: Case, seen: Seen, out: str, *, late: bool) -> None:
    if late:
        seen.check(case.rule, f"the client was not done after {LIMIT_S:g} s", holds=False)
        return
    told = _told(out)
    if told is None:
        seen.check(
            "contract", "the last line of the output is no JSON with text and state", holds=False
        )
        return
    text, state = told
    wanted = Answer(case.last_seq).text()
    seen.check(case.rule, f"the state is {state!r}, not {case.state!r}", holds=state == case.state)
    seen.check("P1", f"the text is {text!r}, not {wanted!r}", holds=text == wanted)
    if case.state == "done":
        seen.check(
            "P9", f"the end was not acked: {seen.acked} was", holds=seen.acked == case.last_seq
        )
    if case.only_polls:
        seen.check("P18", "the client never polled", holds=seen.polls > 0)


def _told(out: str) -> tuple[str, str] | None:
    lines = out.strip().split("\n")  # only there: text may contain other line ends
    try:
        told = json.loads(lines[-1])
        return str(told["text"]), str(told["state"])
    except (IndexError, ValueError, KeyError, TypeError):
        return None


async def judge_all(cases: Sequence[Case], client: Sequence[str], jobs: int) -> list[Verdict]:
    """The verdicts, in the order of the cases."""
    free = asyncio.Semaphore(jobs)

    async def one(case: Case) -> Verdict:
        async with free:
            return await judge(case, client)

    return await asyncio.gather(*map(one, cases))
