"""llama.cpp behind Lore beside llama.cpp's own API, and what the window costs in two ways.

Speed: the same greedy questions, by turns, at the engine's chat completions and at an edge of Lore.
The engine has one core, and everything else (Lore's processes, Valkey, the readers) another.

The window: the engine asked directly for an answer behind a window of 32 tokens, whose reader
acknowledges each 8 at once. *Exact*: each call asks for the credit that there is when it begins.
*Close*: a call asks for all, and is closed at the first token beyond the credit. Then what was made
for a reader who left.

Usage: python -m loadtest.bench.remote_engine [--streams 1 4 16] [--tokens 64] [--turns 3]
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import httpx

from lore_client import End, Reader, Text
from tests.engines.llamacpp import LlamaServer

ENGINE_CORE, OTHER_CORE = "0", "1"
READY_S = 60.0
WINDOW, ACK_EACH = 32, 8


def messages(number: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"Write a long story about the number {number}."}]


async def bare(http: httpx.AsyncClient, number: int, tokens: int) -> tuple[int, float]:
    """Tokens and the seconds to the first one."""
    body = {
        "messages": messages(number),
        "max_tokens": tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    began_s, first_s, made = time.monotonic(), 0.0, 0
    async with http.stream("POST", "/v1/chat/completions", json=body) as answer:
        async for line in answer.aiter_lines():
            if not line.startswith("data: {"):
                continue
            event = json.loads(line[6:])
            if not first_s and event["choices"] and event["choices"][0]["delta"].get("content"):
                first_s = time.monotonic() - began_s
            made = (event.get("usage") or {}).get("completion_tokens", made)
    return made, first_s


async def behind(reader: Reader, number: int, tokens: int) -> tuple[int, float]:
    greedy: dict[str, Any] = {"temperature": 0.0, "repetition_penalty": 1.0}
    began_s, first_s, made = time.monotonic(), 0.0, 0
    asked = await reader.create(messages=messages(number), max_tokens=tokens, **greedy)
    async for event in reader.stream(asked.request_id):
        if isinstance(event, Text) and event.text and not first_s:
            first_s = time.monotonic() - began_s
        if isinstance(event, End):
            assert event.status == "done", event.error
            made = event.usage.completion_tokens
    return made, first_s


async def speed(engine: str, edge: str, streams: list[int], tokens: int, turns: int) -> None:
    print("| streams | bare tokens/s | Lore tokens/s | ratio | bare first token | Lore's |")
    print("|---|---|---|---|---|---|")
    number = 0
    async with httpx.AsyncClient(base_url=engine, timeout=600) as http, Reader([edge]) as reader:
        await bare(http, 999_999, 4)
        await behind(reader, 999_998, 4)
        for count in streams:
            sides: dict[str, list[tuple[float, float]]] = {"bare": [], "lore": []}
            for _ in range(turns):
                for side, found in sides.items():
                    numbers = range(number, number + count)
                    number += count
                    began_s = time.monotonic()
                    if side == "bare":
                        asking = [bare(http, one, tokens) for one in numbers]
                    else:
                        asking = [behind(reader, one, tokens) for one in numbers]
                    done = await asyncio.gather(*asking)
                    took_s = time.monotonic() - began_s
                    first_s = statistics.median(first for _, first in done)
                    found.append((sum(made for made, _ in done) / took_s, first_s))
            (rate, first), (lore, lore_first) = (
                tuple(statistics.median(column) for column in zip(*found, strict=True))
                for found in sides.values()
            )
            print(
                f"| {count} | {rate:.1f} | {lore:.1f} | {lore / rate:.3f} |"
                f" {1000 * first:.0f} ms | {1000 * lore_first:.0f} ms |",
                flush=True,
            )


async def _stream(http: httpx.AsyncClient, prompt: list[int], most: int) -> AsyncGenerator[int]:
    body = {"prompt": prompt, "n_predict": most, "temperature": 0, "ignore_eos": True}
    body |= {"stream": True, "return_tokens": True, "cache_prompt": True}
    async with http.stream("POST", "/completion", json=body) as answer:
        async for line in answer.aiter_lines():
            if line.startswith("data: "):
                for token in json.loads(line[6:])["tokens"]:
                    yield token


async def under_a_window(http: httpx.AsyncClient, prompt: list[int], tokens: int, way: str) -> int:
    """Calls that the answer took. Acks come at once, so the credit is always a window ahead."""
    made: list[int] = []
    calls = 0
    while len(made) < tokens:
        calls += 1
        acked = len(made) // ACK_EACH * ACK_EACH
        most = min(tokens, acked + WINDOW) - len(made) if way == "exact" else tokens - len(made)
        async with aclosing(_stream(http, [*prompt, *made], most)) as stream:
            async for token in stream:
                acked = len(made) // ACK_EACH * ACK_EACH
                if way == "close" and len(made) >= acked + WINDOW:
                    break
                made.append(token)
    return calls


async def ways(engine: str, tokens: int, turns: int) -> None:
    print("\n| way | calls | seconds | of close |\n|---|---|---|---|")
    prompt = [1, 4093, 198, 28120, 2, 198, 1, 520, 9531, 198]
    async with httpx.AsyncClient(base_url=engine, timeout=600) as http:
        took: dict[str, list[float]] = {"close": [], "exact": []}
        calls = dict.fromkeys(took, 0)
        for _ in range(turns):
            for way, found in took.items():
                began_s = time.monotonic()
                calls[way] = await under_a_window(http, prompt, tokens, way)
                found.append(time.monotonic() - began_s)
        one_s = statistics.median(took["close"])
        for way, found in took.items():
            middle_s = statistics.median(found)
            print(f"| {way} | {calls[way]} | {middle_s:.2f} | {middle_s / one_s:.2f} |")
        print("\n| a reader left after | made beyond the credit |\n|---|---|")
        for _ in range(turns):
            print(f"| {WINDOW} tokens | {await _left(http, prompt)} |", flush=True)


async def _left(http: httpx.AsyncClient, prompt: list[int]) -> int:
    """Tokens that the engine made behind the credit of a reader who left."""
    before = await _made(http)
    made = 0
    async with aclosing(_stream(http, prompt, 1000)) as stream:
        async for _ in stream:
            made += 1
            if made > WINDOW:
                break
    while any(slot["is_processing"] for slot in (await http.get("/slots")).json()):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    return round(await _made(http) - before) - WINDOW


async def _made(http: httpx.AsyncClient) -> float:
    for line in (await http.get("/metrics")).text.splitlines():
        if line.startswith("llamacpp:tokens_predicted_total "):
            return float(line.split()[1])
    raise AssertionError


def lore_up(engine: str, folder: str) -> tuple[subprocess.Popen[str], str]:
    argv = ["taskset", "-c", OTHER_CORE, sys.executable, "-m", "lore.cli", "up", "--edges", "1"]
    argv += ["--engine", "llamacpp", "--engine-url", engine, "--port", "0", "--data-dir", folder]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip().startswith("Edges"):
            return process, line.split()[1]
    raise RuntimeError("lore up did not start")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--turns", type=int, default=3)
    options: Any = parser.parse_args()
    pinned = ("taskset", "-c", ENGINE_CORE)
    with LlamaServer(slots=16, prefix=pinned) as server, tempfile.TemporaryDirectory() as folder:
        os.sched_setaffinity(0, {int(OTHER_CORE)})
        process, edge = lore_up(server.url, folder)
        try:
            asyncio.run(speed(server.url, edge, options.streams, options.tokens, options.turns))
            asyncio.run(ways(server.url, 200, options.turns))
        finally:
            process.terminate()
            process.wait()


if __name__ == "__main__":
    main()
