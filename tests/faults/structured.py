"""``python -m tests.faults.structured``: answers that are calls and objects, under faults.

Real generators run a tiny model under the real grammar, and readers use both of OpenAI's dialects.
What each is told has to be what it is told while nothing happens, and valid.
"""

import argparse
import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import uvloop

from lore.logs import configure_logging
from tests.faults.dialects import DIALECTS, Chat, Form
from tests.faults.fleet import Fleet
from tests.faults.json_model import save_json_model
from tests.faults.kinds import KINDS, Kind
from tests.faults.outages import OUTAGES
from tests.faults.parts import AGAIN_S, COME_BACK, Asked, read_parts
from tests.faults.report import table, tell
from tests.faults.run import Round, run_round
from tests.services.schemas import FLAG, SHORT, obj

ALONE_S = 120.0
ROW = obj(
    name=SHORT,
    age={"type": "integer", "minimum": 0, "maximum": 130},
    unit={"enum": ["celsius", "fahrenheit"]},
    ok=FLAG,
)
ROWS = obj(rows={"type": "array", "items": ROW, "minItems": 6, "maxItems": 12})
FUNCTIONS = (
    {"name": "weather", "parameters": obj(city=SHORT)},
    {"name": "save", "parameters": ROWS},
)
FORMS = (
    Form(schema=ROWS),
    Form(FUNCTIONS),
    Form(FUNCTIONS, choice="save"),
    Form(FUNCTIONS, parallel=False),
    Form(FUNCTIONS[:1]),
)
WORDS = obj(words={"type": "array", "items": SHORT, "minItems": 30, "maxItems": 30})
LONG = (Form(schema=WORDS), Form([{"name": "save", "parameters": WORDS}], parallel=False))
TOKENS = (60, 700)
"""At most: an answer that its length cuts, and one that ends. They last as long as faults do."""
KNOWN = 20
TAKEN_OVER = '"request taken over"'
CONTEXT_TOKENS = 1024
KINDS_HERE = [
    kind for kind in (*KINDS, *OUTAGES) if not (kind.may_lose or kind.gives_up or kind.fills_disk)
]
"""By which no store loses what it had."""


@asynccontextmanager
async def stand() -> AsyncIterator[Fleet]:
    with TemporaryDirectory() as folder:
        save_json_model(Path(folder))
        engine = {"engine": "transformers", "model": folder, "parts": "hermes", "threads": 1}
        async with Fleet(generator=engine | {"context_tokens": CONTEXT_TOKENS}) as fleet:
            yield fleet


async def references(fleet: Fleet, count: int) -> list[Asked]:
    """Questions, each with what is answered while nothing happens to anybody."""
    return await asyncio.gather(*(_reference(fleet, number) for number in range(count)))


async def _reference(fleet: Fleet, number: int) -> Asked:
    form, tokens = FORMS[number % len(FORMS)], TOKENS[number % len(TOKENS)]
    messages = [{"role": "user", "content": f"What is the number {number}?"}]
    asked = Asked(messages, {"max_tokens": tokens}, 0, "", form=form)
    async with httpx.AsyncClient(timeout=ALONE_S, trust_env=False) as http:
        async with asyncio.timeout(ALONE_S):
            while True:
                answer = await http.post(fleet.readers[0] + Chat.path, json=asked.body)
                if answer.status_code not in COME_BACK:
                    break
                await asyncio.sleep(AGAIN_S)  # no generator has told of its model yet (P19.8)
    whole = answer.raise_for_status().json()
    said = Chat.said(whole)
    form.check(said)
    chunks = await fleet.store.log(whole["id"].removeprefix(Chat.prefix))
    return replace(asked, answer="".join(chunk.text for chunk in chunks), told=said.joined())


def draw(rng: random.Random, known: Sequence[Asked], count: int) -> list[Asked]:
    """Each of ``known`` in turn, in one dialect or the other."""
    return [
        replace(known[number % len(known)], dialect=rng.choice(DIALECTS)) for number in range(count)
    ]


async def rounds(streams: int, each: int, names: Sequence[str], rng: random.Random) -> bool:
    """False when something was violated."""
    kinds = [kind for kind in KINDS_HERE if not names or kind.name in names]
    done: list[Round] = []
    ends: Counter[str] = Counter()
    began_s = time.monotonic()
    async with stand() as fleet:
        known = await references(fleet, KNOWN)
        while sum(ends.values()) < streams:
            kind = kinds[len(done) % len(kinds)]
            this = await structured_round(fleet, [kind], draw(rng, known, each), rng)
            done.append(this)
            ends.update(question.outcome.value for question in this.questions)
            tell(this, fleet.folder)
        violations = sum(len(this.violations) for this in done)
        taken = sum(part.log.read_text().count(TAKEN_OVER) for part in fleet.generators)
        if not violations:
            fleet.forget_logs()
    took_s = time.monotonic() - began_s
    print(table(done), f"outcomes: {dict(ends)}; {took_s:.0f} s", sep="\n\n")
    visits = sum(one.visits for this in done for one in this.questions if isinstance(one, Asked))
    print(f"connections of readers: {visits}; takeovers: {taken}; violations: {violations}")
    return not violations


async def structured_round(
    fleet: Fleet, kinds: Sequence[Kind], asked: Sequence[Asked], rng: random.Random
) -> Round:
    return await run_round(fleet, kinds, asked, rng, partial(read_parts, fleet.readers))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.structured", description=__doc__)
    parser.add_argument("--seed", type=int, help="replay the choices; without it, new ones")
    parser.add_argument("--streams", type=int, default=500, help="in all, at least")
    parser.add_argument("--each", type=int, default=20, help="in each round")
    parser.add_argument("--kind", action="append", help="only these; may be given several times")
    options = parser.parse_args()
    configure_logging("faults", "error")
    seed = random.getrandbits(32) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    rng = random.Random(seed)
    sys.exit(not uvloop.run(rounds(options.streams, options.each, options.kind or (), rng)))


if __name__ == "__main__":
    main()
