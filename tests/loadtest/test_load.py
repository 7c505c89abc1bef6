"""The load tests for users: both tools against a real stack, and against an edge that is wrong.

Locust patches the standard library when it is imported, so it runs as a process of its own.
"""

import asyncio
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import programs
from tests.browser.stack import Stack, lore_up
from tests.programs import Done
from tests.services.scripted_edge import Call, Connection, Script, ScriptedEdge

ROOT = Path(__file__).parents[2]
LIMIT_S = 120
VIEW = {"request_id": "r", "status": "queued", "log_id": "a", "stream_url": "/v1/streams/r?log=a"}


@pytest.fixture(scope="module")
def lore(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with lore_up(tmp_path_factory.mktemp("lore")) as stack:
        yield stack


async def run(name: str, *words: str) -> Done:
    """A program of this environment, to its end."""
    program = str(Path(sys.executable).with_name(name))
    env = {**os.environ, "K6_NO_USAGE_REPORT": "true"}
    return await programs.run(program, *words, env=env, limit_s=LIMIT_S, folder=ROOT)


async def locust(urls: list[str], *words: str) -> Done:
    # Not --csv: its files lack what came in the last second.
    options = ["--headless", "--json", "--edges", ",".join(urls), "--stop-timeout", "30"]
    return await run("locust", "-f", "loadtest/locustfile.py", *options, *words)


async def k6(script: str, urls: list[str]) -> Done:
    settings = {
        "URL": ",".join(urls),
        "MAX_TOKENS": "20",
        "RATE": "6",
        "RAMP": "1s",
        "HOLD": "0s",
        "FIRST_MS": "60000",  # nobody says how fast this machine is
    }
    words = [word for item in settings.items() for word in ("-e", "=".join(item))]
    return await run("k6", "run", *words, f"loadtest/k6/{script}.js")


async def test_every_kind_of_reader_gets_its_answer_from_a_real_stack(lore: Stack) -> None:
    """P1, P12: cut readers go on at the other edge, and every text is that of the JSON view."""
    shares = ["--steady", "1", "--cut", "1", "--lagging", "1", "--vanishing", "1"]
    habits = ["--lag-s", "0.05", "--away-s", "0.1", "--max-tokens", "40"]
    done = await locust(lore.urls, *shares, *habits, "-u", "8", "-r", "8", "-t", "2s")
    assert done.status == 0, done.err
    happened = {(row["method"], row["name"]) for row in json.loads(done.out)}
    assert happened > {
        *((kind, "time to first text") for kind in ("steady", "cut", "lagging", "vanishing")),
        *((kind, "whole answer") for kind in ("steady", "cut", "lagging")),
        ("steady", "longest pause"),
        ("steady", "ack"),
        ("cut", "resume to next byte"),
        ("vanishing", "left"),
    }


async def skip(stream: Connection) -> None:
    await stream.open()
    await stream.chunk(1, "a")
    await stream.chunk(3, "c")


async def change(stream: Connection) -> None:
    await stream.open()
    await stream.chunk(1, "a")
    await stream.chunk(1, "b")


async def misnumber(stream: Connection) -> None:
    await stream.open()
    await stream.send(b'id: 2\ndata: {"seq": 1, "text": "a"}\n\n')


async def end_late(stream: Connection) -> None:
    await stream.open()
    await stream.chunk(1, "a")
    await stream.end(2)


async def fail(stream: Connection) -> None:
    await stream.open()
    await stream.end(0, status="failed", error="it broke")


async def lose(stream: Connection) -> None:
    await stream.open()
    await stream.event("error", error={"code": "history_lost", "message": "lost"})


async def say_what_the_view_does_not(stream: Connection) -> None:
    await stream.open()
    await stream.chunk(1, "b")
    await stream.end(1)


async def begin_again(stream: Connection) -> None:
    """Ends the connection after a chunk, and sends that again to who comes back."""
    await stream.open()
    await stream.chunk(1, "a")


WRONG: dict[str, Script] = {
    "a gap": skip,
    "a chunk with another text": change,
    "an id that is not its seq": misnumber,
    "a wrong end: not that of the last chunk": end_late,
    "a wrong end: failed": fail,
    "history_lost": lose,
    "the JSON view has another text": say_what_the_view_does_not,
    "a doubled chunk": begin_again,
}


def resumed(call: Call) -> bool:
    return "after" in call.query or "last-event-id" in call.headers


async def refuse(call: Connection) -> None:
    await call.answer(429, {"error": {"code": "queue_full", "message": "full"}}, Retry_After="1")


async def take(call: Connection) -> None:
    await call.answer(201, VIEW)


async def show(call: Connection) -> None:
    await call.answer(200, {**VIEW, "status": "done", "text": "a", "next_seq": 2})


async def test_locust_fails_for_whatever_an_edge_does_wrong() -> None:
    """P1, P4, P12; a refusal that says when to come again (P17) is none of it."""
    wrongs = iter(WRONG.values())

    async def misbehave(stream: Connection) -> None:
        script = begin_again if resumed(stream.call) else next(wrongs, skip)
        await script(stream)

    asked = {"POST streams": [refuse, take], "GET r": [show]}
    async with ScriptedEdge(streams=[misbehave], others=asked) as edge:
        each = str(len(WRONG))
        only_steady = ["--cut", "0", "--lagging", "0", "--vanishing", "0"]
        done = await locust([edge.url], *only_steady, "-u", each, "-r", each, "-t", "2s")
    assert done.status == 1
    assert set(re.findall(r"Broken\('(.*)'\)", done.err)) == WRONG.keys(), done.err
    (refused,) = [row for row in json.loads(done.out) if row["name"].startswith("429 ")]
    assert refused["method"] == "again"
    assert (refused["num_requests"], refused["num_failures"]) == (1, 0)


async def test_locust_fails_when_no_answer_came() -> None:
    async with ScriptedEdge(others={"POST streams": [refuse]}) as edge:
        done = await locust([edge.url], "-u", "1", "-t", "1s", "--stop-timeout", "0")
    assert done.status == 1
    assert "not one answer was read to its end" in done.err


async def test_k6_finds_nothing_wrong_with_a_real_stack(lore: Stack) -> None:
    for done in await asyncio.gather(k6("chat", lore.urls), k6("streams", lore.urls)):
        assert done.status == 0, done.out


async def test_k6_fails_for_a_chat_without_its_end() -> None:
    async def models(call: Connection) -> None:
        await call.answer(200, {"data": [{"id": "default"}]})

    async def half_a_chat(call: Connection) -> None:
        await call.open()
        choice = {"delta": {"content": "a"}, "finish_reason": "stop"}
        await call.send(f"data: {json.dumps({'choices': [choice]})}\n\n".encode())

    others = {"GET models": [models], "POST completions": [half_a_chat]}
    async with ScriptedEdge(others=others) as edge:
        done = await k6("chat", [edge.url])
    assert done.status == 99
    assert failed_checks(done) == {"it ends with [DONE]"}, done.out


async def test_k6_fails_for_a_stream_with_a_gap() -> None:
    async def gap(stream: Connection) -> None:
        await skip(stream)
        await stream.end(2)

    async def view(call: Connection) -> None:
        await call.answer(200, {**VIEW, "status": "done", "text": "ac"})

    others = {"POST streams": [take], "GET r": [view]}
    async with ScriptedEdge(streams=[gap], others=others) as edge:
        done = await k6("streams", [edge.url])
    assert done.status == 99
    assert failed_checks(done) == {"no seq is missing or doubled"}, done.out


def failed_checks(done: Done) -> set[str]:
    summary = done.out.partition("TOTAL RESULTS")[2]
    return {line.strip()[2:] for line in summary.splitlines() if line.strip().startswith("✗ ")}
