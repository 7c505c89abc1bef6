"""What a long prompt costs a short question behind it.

In each turn somebody asks with a prompt that fills the context, and `WAIT_S` later somebody else
asks one of 5 words: alone, behind a reader who waits for the long one's answer, and behind a reader
who has left. The time to the first token counts from the moment of asking, over HTTP to the first
text; that to the last one shows what the prompt costs who is decoded beside it. In turns of their
own (``--long``) the long one's first token is waited for, alone and beside short questions without
a pause. On a CPU, what the generator's process computes meanwhile says on a busy machine, too, how
long that would be on a quiet one.

Usage: python -m loadtest.bench.prefill [--rounds 3] [--long] [--device cuda:0]
"""

import asyncio
import contextlib
import itertools
import json
import time
from importlib.metadata import version
from typing import Any, NamedTuple

import httpx
import uvloop

from loadtest.harness.prompts import GREEDY
from loadtest.harness.record import Report, middle, options, ratio
from loadtest.harness.stage import Part, Stage
from lore_generator.engines.loading import find

WAIT_S = 5.0
"""From the long prompt to the short question: longer than an edge keeps an unread feed."""
LEFT_AFTER_S = 1.0
SHORT = "What is a loop?"
SHORT_TOKENS = 16
ALONE, LIVE, LEFT = "nobody", "a prompt whose reader waits", "a prompt whose reader left"
HEAD = ("first token s", "CPU s", "to alone", "16th token s", "CPU s", "to alone")
LONG_HEAD = ("beside", "first token s", "CPU s", "to alone")


class Waited(NamedTuple):
    """Seconds, and the CPU seconds of the generator meanwhile."""

    first_s: float
    first_cpu_s: float
    whole_s: float
    whole_cpu_s: float


class Callers:
    def __init__(self, http: httpx.AsyncClient, generator: Part, prompt_tokens: int) -> None:
        self._http = http
        self._generator = generator
        self._prompt_tokens = prompt_tokens
        self._besides = 0
        self._turns = itertools.count(1)

    async def ask(self, content: str, tokens: int) -> Waited:
        """The seconds to the first text, and to the last."""
        first, began_s, began_cpu_s = None, time.perf_counter(), self._generator.cpu_s()

        def passed() -> tuple[float, float]:
            return time.perf_counter() - began_s, self._generator.cpu_s() - began_cpu_s

        async with self._stream(content, tokens) as response:
            async for line in response.aiter_lines():
                if first is None and line.startswith('data: {"seq"'):
                    first = passed()
                if line == "event: end":
                    break
        assert first is not None
        return Waited(*first, *passed())

    async def calibrate(self) -> None:
        """How many tokens a prompt has beside its words, each of which is one."""
        async with self._stream("a" * 2 + " b" * 100, 1) as response:
            address = response.headers["location"]
            async for line in response.aiter_lines():
                if line == "event: end":
                    break
        view = (await self._http.get(address)).json()
        self._besides = view["prompt_tokens"] - 100

    def long(self) -> str:
        """Another one in each turn, so that none is found in the model's cache."""
        words = self._prompt_tokens - self._besides - 1
        return f"{'abcdefghijklmnopqrstuvwxyz'[next(self._turns) % 26]}a" + " b" * words

    async def short_behind(self, who: str) -> Waited:
        if who == ALONE:
            return await self.ask(SHORT, SHORT_TOKENS)
        leaves = asyncio.Event()
        reading = asyncio.create_task(self._read_long(leaves))
        if who == LEFT:
            await asyncio.sleep(LEFT_AFTER_S)
            leaves.set()
        await asyncio.sleep(WAIT_S - LEFT_AFTER_S * (who == LEFT))
        waited = await self.ask(SHORT, SHORT_TOKENS)
        leaves.set()
        await self._http.delete(await reading)
        return waited

    async def _read_long(self, leaves: asyncio.Event) -> str:
        async with self._stream(self.long(), 2) as response:
            await leaves.wait()
            return str(response.headers["location"]).partition("?")[0]

    async def long_beside(self, *, shorts: bool) -> Waited:
        asking = asyncio.create_task(self._keep_asking()) if shorts else None
        waited = await self.ask(self.long(), 1)
        if asking is not None:
            asking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asking
        return waited

    async def _keep_asking(self) -> None:
        for number in itertools.count():
            await self.ask(f"{number}. {SHORT}", SHORT_TOKENS)

    def _stream(self, content: str, tokens: int) -> Any:
        body = {
            "messages": [{"role": "user", "content": content}],
            "max_tokens": tokens,
            "ack": "socket",
            **GREEDY,
        }
        return self._http.stream(
            "POST", "/v1/streams", json=body, headers={"Accept": "text/event-stream"}
        )


async def measure(chosen: Any) -> tuple[dict[str, list[Waited]], dict[bool, list[Waited]]]:
    given = {"model": chosen.model, "device_map": chosen.device, "threads": chosen.threads}
    settings = {name: value for name, value in given.items() if value}
    async with Stage() as stage:
        generator = await stage.generator(engine="transformers", slots=16, **settings)
        _, port = await stage.edge()
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=600) as http:
            callers = Callers(http, generator, chosen.prompt_tokens)
            await callers.calibrate()
            short: dict[str, list[Waited]] = {}
            long: dict[bool, list[Waited]] = {}
            for _ in range(chosen.rounds):
                for who in (ALONE, LEFT, LIVE):
                    short.setdefault(who, []).append(await callers.short_behind(who))
                    print(who, json.dumps(short[who][-1]), flush=True)
                for shorts in (False, True) if chosen.long else ():
                    long.setdefault(shorts, []).append(await callers.long_beside(shorts=shorts))
                    print("long", shorts, long[shorts][-1], flush=True)
            return short, long


def _middle(some: list[Waited], name: str) -> float:
    return middle(getattr(one, name) for one in some)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--prompt-tokens", type=int, default=8_190, help="of the long prompt")
    parser.add_argument("--long", action="store_true", help="also what it costs a long prompt")
    parser.add_argument("--model", help="as LORE_MODEL; unset, SmolLM2-135M")
    parser.add_argument("--device", help="as LORE_DEVICE_MAP: cpu, cuda:0")
    parser.add_argument("--threads", type=int, help="as LORE_THREADS")
    chosen = parser.parse_args()
    report = Report("What a long prompt costs a short question", "python -m loadtest.bench.prefill")
    short, long = uvloop.run(measure(chosen))
    report.say(
        f"{find(chosen.model).name} on {chosen.device or 'the CPU'}; a prompt of"
        f" {chosen.prompt_tokens} tokens, and {WAIT_S:g} s later a question of 5; one whose reader"
        f" left did so after {LEFT_AFTER_S:g} s. Medians of {chosen.rounds} turns."
        f" torch {version('torch')}, transformers {version('transformers')}."
    )
    table: list[list[str]] = []
    for who, some in short.items():
        row = [who]
        for waited_s, cpu_s in (("first_s", "first_cpu_s"), ("whole_s", "whole_cpu_s")):
            used = _middle(some, cpu_s)
            alone = ratio(used, _middle(short[ALONE], cpu_s))
            row += [f"{_middle(some, waited_s):.2f}", f"{used:.2f}", alone]
        table.append(row)
    report.table(("behind", *HEAD), table)
    if long:
        report.table(
            LONG_HEAD,
            (
                (
                    "short questions" if beside else "nobody",
                    f"{_middle(some, 'first_s'):.1f}",
                    f"{_middle(some, 'first_cpu_s'):.1f}",
                    ratio(_middle(some, "first_cpu_s"), _middle(long[False], "first_cpu_s")),
                )
                for beside, some in long.items()
            ),
        )
    report.publish(keep=not chosen.dry)


if __name__ == "__main__":
    main()
