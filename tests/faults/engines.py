"""``python -m tests.faults.engines``: two llama.cpp servers are killed, frozen and started again.

Two generators drive both servers; readers compare what they get with what a server answers when it
is asked directly, greedily and alone. It needs a llama.cpp (``tests/engines/llamacpp.py``).
"""

import argparse
import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager

import uvloop

from lore.logs import configure_logging
from tests.engines import llamacpp
from tests.engines.llamacpp import LlamaServer
from tests.faults.fleet import Fleet
from tests.faults.kinds import Kind, generator_kill
from tests.faults.readers import STREAM_S, Outcome, Question
from tests.faults.report import table, tell
from tests.faults.run import Round, run_round

ANSWER_S = 5
TOPICS = (
    *("rivers", "a loop in Python", "the moon", "bread", "chess", "TCP", "trees"),
    *("the number seven", "a recursive function", "cats", "how to say hello 🙂", "中文"),
)


def greedy(server: LlamaServer, topic: str, tokens: int) -> tuple[list[dict[str, str]], str]:
    """What the server answers by itself."""
    messages = [{"role": "user", "content": f"In short: what is {topic}?"}]
    body = {"messages": messages, "max_tokens": tokens, "temperature": 0}
    answer = server.post("/v1/chat/completions", **body)
    return messages, answer["choices"][0]["message"]["content"]


def engine_faults(servers: Sequence[LlamaServer]) -> list[Kind]:
    # The sleeps are how long a fault lasts.
    async def kill(fleet: Fleet, rng: random.Random) -> None:
        await _until_read(fleet)
        server = rng.choice(servers)
        server.kill()
        await asyncio.sleep(rng.uniform(0, 2))
        server.start()
        await asyncio.to_thread(server.until_up)

    async def kill_both(fleet: Fleet, rng: random.Random) -> None:
        await _until_read(fleet)
        for server in servers:
            server.kill()
        await asyncio.sleep(rng.uniform(0, 4))
        for server in servers:
            server.start()
            await asyncio.to_thread(server.until_up)

    async def freeze(fleet: Fleet, rng: random.Random) -> None:
        """Longer than a server may take to answer."""
        await _until_read(fleet)
        server = rng.choice(servers)
        server.freeze()
        await asyncio.sleep(rng.uniform(1.5, 2) * ANSWER_S)
        server.thaw()

    return [
        Kind("engine kill -9", kill),
        Kind("both engines kill -9", kill_both, times=1),
        Kind("engine frozen", freeze, times=1),
        Kind("generator kill -9", generator_kill, times=1),
    ]


async def _until_read(fleet: Fleet) -> None:
    """Text has come, and more will: else a fault hits nobody, as it does once all have ended."""
    async with asyncio.timeout(STREAM_S):
        while not any(question.is_read for question in fleet.questions):
            if all(question.outcome is not Outcome.STUCK for question in fleet.questions):
                break
            await asyncio.sleep(0.02)


@asynccontextmanager
async def stand() -> AsyncIterator[tuple[Fleet, list[LlamaServer]]]:
    """Two generators, each of which drives both of two servers."""
    with ExitStack() as stack:
        servers = [stack.enter_context(LlamaServer()) for _ in range(2)]
        engine = {
            "engine": "llamacpp",
            "engine_url": ",".join(server.url for server in servers),
            "engine_answer_s": ANSWER_S,
        }
        async with Fleet(generator=engine) as fleet:
            yield fleet, servers


async def rounds(streams: int, each: int, tokens: int, rng: random.Random) -> bool:
    """False when something was violated."""
    done: list[Round] = []
    ends: Counter[str] = Counter()
    began_s = time.monotonic()
    async with stand() as (fleet, servers):
        kinds = engine_faults(servers)
        known = [greedy(servers[0], topic, tokens) for topic in TOPICS]
        while sum(ends.values()) < streams:
            kind = kinds[len(done) % len(kinds)]
            questions = [draw(rng, known, tokens) for _ in range(each)]
            this = await run_round(fleet, [kind], questions, rng)
            done.append(this)
            ends.update(question.outcome.value for question in this.questions)
            tell(this, fleet.folder)
        violations = sum(len(this.violations) for this in done)
        if not violations:
            fleet.forget_logs()
    took_s = time.monotonic() - began_s
    print(table(done), f"outcomes: {dict(ends)}; {took_s:.0f} s", sep="\n\n")
    print(f"violations: {violations}")
    return not violations


def draw(
    rng: random.Random, known: Sequence[tuple[list[dict[str, str]], str]], tokens: int
) -> Question:
    messages, answer = rng.choice(known)
    parameters = {
        "ack": rng.choices(("client", "socket", "none"), (8, 1, 1))[0],
        "temperature": 0.0,
        "repetition_penalty": 1.0,
        "max_tokens": tokens,
    }
    if parameters["ack"] == "client" and rng.random() < 0.5:
        parameters["window"] = rng.choice((8, 16, 32))
    return Question(messages, parameters, 0, answer)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.engines", description=__doc__)
    parser.add_argument("--seed", type=int, help="replay the choices; without it, new ones")
    parser.add_argument("--streams", type=int, default=500, help="in all, at least")
    parser.add_argument("--each", type=int, default=50, help="in each round")
    parser.add_argument("--tokens", type=int, default=24, help="of an answer, at most")
    options = parser.parse_args()
    configure_logging("faults", "error")
    if why := llamacpp.missing():
        sys.exit(why)
    seed = random.getrandbits(32) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    rng = random.Random(seed)
    sys.exit(not uvloop.run(rounds(options.streams, options.each, options.tokens, rng)))


if __name__ == "__main__":
    main()
