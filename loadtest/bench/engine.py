"""What Lore costs the model: tokens a second and the time to the first one, beside its peers.

Four sides decode the same prompts, greedily, as many at once as there are streams: transformers'
batching manager as Lore's engine sets it up, with nothing around it; Lore's engine (its window
scheduler, sampler and detokeniser) with nothing around it; Lore whole, with generator, Valkey,
edge, and readers that acknowledge over HTTP; and `transformers serve --continuous-batching` over
HTTP, with its own settings but for the KV memory of a CPU. They stay up and take turns, nobody
else working meanwhile. The time to the first token counts from the moment of asking; over HTTP, to
the first bytes of text.

Usage: python -m loadtest.bench.engine [--streams 1 4 16] [--tokens 48] [--device cuda:0]
           [--sides "Lore, whole" "transformers serve"]
"""

import asyncio
import contextlib
import importlib.util
import json
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import httpx
import uvloop

from loadtest.harness import taps
from loadtest.harness.ackers import AckingTap, Posts
from loadtest.harness.prompts import GREEDY, prompts_of
from loadtest.harness.record import Report, middle, options, quantile
from loadtest.harness.stage import Stage
from lore.cli.child import Child
from lore.cli.fleet import free_ports
from lore_generator.engines.loading import find
from lore_generator.engines.transformers_engine import CPU_KV_TOKENS
from lore_generator.engines.unpacked import unpacked

ANSWER_S = 600.0
SETTLE_S = 0.3
"""Longer than a reader's last ack takes."""
END = b"event: end\n"
SERVE = "transformers serve"
SERVE_MAIN = "from transformers.cli.transformers import main; main()"
MANAGER, ENGINE, WHOLE = "batching manager", "Lore's engine", "Lore, whole"
HEAD = (
    "streams",
    "side",
    "tokens/s",
    "to the manager",
    "to serve",
    "first token p50 s",
    "to the manager",
    "to serve",
)


@dataclass(frozen=True)
class Sample:
    tokens: int
    took_s: float
    first_s: list[float]

    @property
    def rate(self) -> float:
        return self.tokens / self.took_s


class Side(Protocol):
    async def turn(self, prompts: Sequence[str]) -> Sample: ...


class Bare:
    """``loadtest.harness.bare_engine`` in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, kind: str, chosen: Any) -> AsyncIterator["Bare"]:
        argv = ["-m", "loadtest.harness.bare_engine", kind, "--tokens", str(chosen.tokens)]
        argv += ["--slots", str(max(chosen.streams))]
        for name in ("model", "device"):
            if value := getattr(chosen, name):
                argv += [f"--{name}", value]
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            sys.executable, *argv, stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.DEVNULL
        )
        try:
            side = cls(process)
            await side._read()
            yield side
        finally:
            assert process.stdin is not None
            process.stdin.close()
            await process.wait()

    async def turn(self, prompts: Sequence[str]) -> Sample:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(prompts).encode() + b"\n")
        return Sample(**json.loads(await self._read()))

    async def _read(self) -> bytes:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError("the bare engine has ended")
        return line


class Whole(AckingTap):
    """Reads to the end, and says when that is there."""

    def __init__(self, request: bytes, posts: Posts) -> None:
        super().__init__(request, posts)
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self.ended.done() and END in b"".join(part for _, part in self.got[-2:]):
            self.ended.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if not self.ended.done():
            self.ended.set_exception(ConnectionError(self.body()[-300:].decode(errors="replace")))


class Lore:
    """All of it, from an edge's HTTP to the model."""

    def __init__(self, port: int, tokens: int) -> None:
        self._port = port
        self._tokens = tokens

    @classmethod
    async def open(cls, stage: Stage, chosen: Any) -> "Lore":
        settings = {"model": chosen.model, "device_map": chosen.device}
        given = {name: value for name, value in settings.items() if value}
        await stage.generator(engine="transformers", slots=max(chosen.streams), **given)
        _, port = await stage.edge()
        return cls(port, chosen.tokens)

    async def turn(self, prompts: Sequence[str]) -> Sample:
        posts = [await taps.open_tap(self._port, Posts) for _ in prompts]
        began_s = time.perf_counter()
        readers: list[Whole] = await asyncio.gather(
            *(self._ask(prompt, post) for prompt, post in zip(prompts, posts, strict=True))
        )
        async with asyncio.timeout(ANSWER_S):
            await asyncio.gather(*(reader.ended for reader in readers))
        ended_s = max(reader.got[-1][0] for reader in readers)
        first_s = [next(reader.chunks())[1] - began_s for reader in readers]
        tokens = sum(_completion_tokens(reader.body()) for reader in readers)
        await asyncio.sleep(SETTLE_S)
        taps.leave([*readers, *posts])
        return Sample(tokens, ended_s - began_s, first_s)

    async def _ask(self, prompt: str, posts: Posts) -> Whole:
        messages = [{"role": "user", "content": prompt}]
        body = {"messages": messages, "max_tokens": self._tokens, "ack": "client", **GREEDY}
        data = taps.post("/v1/streams", body, "Accept: text/event-stream")
        return await taps.open_tap(self._port, lambda: Whole(data, posts))


def _completion_tokens(body: bytes) -> int:
    end = body.partition(END)[2]
    return json.loads(end.partition(b"data: ")[2].splitlines()[0])["usage"]["completion_tokens"]


class Serve:
    """``transformers serve``, as it comes."""

    def __init__(self, http: httpx.AsyncClient, model: str, tokens: int) -> None:
        self._http = http
        self._body = {"model": model, "max_tokens": tokens, "temperature": 0.0, "stream": True}

    @classmethod
    async def open(cls, stack: AsyncExitStack, folder: Path, chosen: Any) -> "Serve":
        (port,) = free_ports(1)
        model = _folder_of(chosen.model)
        argv = [sys.executable, "-c", SERVE_MAIN, "serve", model]
        argv += ["--continuous-batching", "--device", chosen.device or "cpu"]
        argv += ["--host", "127.0.0.1", "--port", str(port)]
        if (chosen.device or "cpu") == "cpu":
            # Of a CPU's memory it would take four fifths. So much is what Lore takes.
            argv += ["--cb-block-size", "256", "--cb-num-blocks", str(CPU_KV_TOKENS // 256)]
        http = await stack.enter_async_context(
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=ANSWER_S)
        )

        async def probe() -> str | None:
            try:
                (await http.get("/health")).raise_for_status()
            except httpx.HTTPError as error:
                return str(error)
            return None

        child = Child(SERVE, argv, {"HF_HUB_OFFLINE": "1"}, folder / "serve.log", probe)
        await child.start()
        stack.push_async_callback(child.stop, 5.0)
        await child.until_ready()
        return cls(http, model, chosen.tokens)

    async def turn(self, prompts: Sequence[str]) -> Sample:
        began_s = time.perf_counter()
        answers = await asyncio.gather(*(self._ask(prompt) for prompt in prompts))
        took_s = time.perf_counter() - began_s
        tokens = sum(tokens for _, tokens in answers)
        return Sample(tokens, took_s, [first_s - began_s for first_s, _ in answers])

    async def _ask(self, prompt: str) -> tuple[float, int]:
        """When the first text came, and how many tokens there were."""
        first_s, tokens = 0.0, 0
        body = self._body | {"messages": [{"role": "user", "content": prompt}]}
        async with self._http.stream("POST", "/v1/chat/completions", json=body) as response:
            response.raise_for_status()
            async for line in response.aiter_lines():
                if not line.startswith("data: {"):
                    continue
                chunk = json.loads(line.removeprefix("data: "))
                if not first_s and any(c["delta"].get("content") for c in chunk["choices"]):
                    first_s = time.perf_counter()
                if usage := chunk.get("usage"):
                    tokens = usage["completion_tokens"]
        return first_s, tokens


def _folder_of(model: str | None) -> str:
    """transformers serve takes a folder, and a GGUF file only from the hub."""
    source = find(model)
    if source.gguf_file is None:
        return source.path
    folder = unpacked(Path(source.path) / source.gguf_file, None)
    if folder is None:
        raise ValueError("the model cannot be kept unpacked, and transformers serve needs that")
    return str(folder)


async def measure(chosen: Any, report: Report) -> dict[tuple[int, str], list[Sample]]:
    async with Stage() as stage, AsyncExitStack() as stack:
        sides: dict[str, Side] = {}
        for name, kind in ((MANAGER, "manager"), (ENGINE, "engine")):
            if name in chosen.sides:
                sides[name] = await stack.enter_async_context(Bare.open(kind, chosen))
        if WHOLE in chosen.sides:
            sides[WHOLE] = await Lore.open(stage, chosen)
        if SERVE in chosen.sides and importlib.util.find_spec("fastapi"):
            sides[SERVE] = await Serve.open(stack, stage.folder, chosen)
        elif SERVE in chosen.sides:
            report.say(f"`{SERVE}` was left out: it needs fastapi, which is not installed.")
        for side in sides.values():
            await side.turn(prompts_of(0, 2))  # what is done once is done
        samples: dict[tuple[int, str], list[Sample]] = {}
        turn = 0
        for number in range(chosen.rounds):
            for streams in chosen.streams:
                turn += 1
                names = list(sides)
                for name in names[number % len(names) :] + names[: number % len(names)]:
                    sample = await sides[name].turn(prompts_of(turn, streams))
                    samples.setdefault((streams, name), []).append(sample)
        return samples


def rows(samples: dict[tuple[int, str], list[Sample]]) -> list[list[str]]:
    table: list[list[str]] = []
    for (streams, name), some in samples.items():
        bare = samples.get((streams, MANAGER))
        serve = samples.get((streams, SERVE))
        rate, first_s = _rate(some), _first_s(some)
        table.append(
            [
                str(streams),
                name,
                f"{rate:.1f}",
                _to(some, bare, _rate),
                _to(some, serve, _rate),
                f"{first_s:.3f}",
                _to(some, bare, _first_s),
                _to(some, serve, _first_s),
            ]
        )
    return table


def _to(
    ours: list[Sample], theirs: list[Sample] | None, of: Callable[[list[Sample]], float]
) -> str:
    """The median of the ratios of neighbouring turns: a busy machine changes with the minutes."""
    if not theirs:
        return "-"
    pairs = zip(ours, theirs, strict=True)
    return f"{middle(of([one]) / of([other]) for one, other in pairs):.2f}"


def _rate(samples: list[Sample]) -> float:
    return middle(sample.rate for sample in samples)


def _first_s(samples: list[Sample]) -> float:
    return middle(quantile(sample.first_s, 0.5) for sample in samples)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 4, 16])
    every = (MANAGER, ENGINE, WHOLE, SERVE)
    parser.add_argument("--sides", nargs="+", choices=every, default=every, help="unset, all")
    parser.add_argument("--tokens", type=int, default=48, help="of each answer")
    parser.add_argument("--model", help="as LORE_MODEL; unset, SmolLM2-135M")
    parser.add_argument("--device", help="as LORE_DEVICE_MAP: cpu, cuda:0")
    chosen = parser.parse_args()
    report = Report("What Lore costs the model", "python -m loadtest.bench.engine")
    samples = uvloop.run(measure(chosen, report))
    sizes = sorted({sample.tokens // key[0] for key, some in samples.items() for sample in some})
    report.say(
        f"{find(chosen.model).name} on {chosen.device or 'the CPU'}, greedy, {chosen.tokens} tokens"
        f" each (answers had {sizes[0]} to {sizes[-1]}), medians of {chosen.rounds} turns of each"
        f" side. torch {version('torch')}, transformers {version('transformers')}."
    )
    report.table(HEAD, rows(samples))
    report.publish(keep=not chosen.dry)


if __name__ == "__main__":
    main()
