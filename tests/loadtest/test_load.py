"""The load tests for users: both tools against a real stack, and against an edge that is wrong.

Locust patches the standard library when it is imported, so it runs as a process of its own.
"""

import asyncio
import csv
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.stack import Stack, lore_up
from tests.services.scripted_edge import Call, Connection, Script, ScriptedEdge

ROOT = Path(__file__).parents[2]
LIMIT_S = 60
VIEW = {"request_id": "r", "status": "queued", "log_id": "a", "stream_url": "/v1/streams/r?log=a"}


@pytest.fixture(scope="module")
def lore(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with lore_up(tmp_path_factory.mktemp("lore")) as stack:
        yield stack


async def run(name: str, *words: str) -> tuple[int, str]:
    """The exit status of a program of this environment, and what it said."""
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name(name)),
        *words,
        cwd=ROOT,
        env={**os.environ, "K6_NO_USAGE_REPORT": "true"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(LIMIT_S):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, said.decode()


async def locust(urls: list[str], tables: Path, *words: str) -> tuple[int, str]:
    options = ["--headless", "--edges", ",".join(urls), "--csv", str(tables / "run")]
    return await run("locust", "-f", "loadtest/locustfile.py", *options, *words)


def table(tables: Path, name: str) -> list[dict[str, str]]:
    with (tables / f"run_{name}.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


async def k6(script: str, urls: list[str]) -> tuple[int, str]:
    load = ["-e", "RATE=6", "-e", "RAMP=1s", "-e", "HOLD=0s", "-e", "MAX_TOKENS=20"]
    return await run("k6", "run", *load, "-e", f"URL={','.join(urls)}", f"loadtest/k6/{script}.js")


async def test_every_kind_of_reader_gets_its_answer_from_a_real_stack(
    lore: Stack, tmp_path: Path
) -> None:
    """P1, P12: cut readers go on at the other edge, and every text is that of the JSON view."""
    shares = ["--steady", "1", "--cut", "1", "--lagging", "1", "--vanishing", "1"]
    habits = ["--lag-s", "0.05", "--away-s", "0.1", "--max-tokens", "40"]
    load = ["-u", "8", "-r", "8", "-t", "2s", "--stop-timeout", "30"]
    status, said = await locust(lore.urls, tmp_path, *shares, *habits, *load)
    assert status == 0, said
    happened = {(row["Type"], row["Name"]) for row in table(tmp_path, "stats")}
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


async def test_locust_fails_for_whatever_an_edge_does_wrong(tmp_path: Path) -> None:
    """P1, P4, P12; a refusal that says when to come again (P17) is none of it."""
    wrongs = iter(WRONG.values())

    async def misbehave(stream: Connection) -> None:
        script = begin_again if resumed(stream.call) else next(wrongs, skip)
        await script(stream)

    asked = {"POST streams": [refuse, take], "GET r": [show]}
    async with ScriptedEdge(streams=[misbehave], others=asked) as edge:
        load = ["-u", str(len(WRONG)), "-r", str(len(WRONG)), "-t", "2s", "--stop-timeout", "30"]
        only_steady = ["--cut", "0", "--lagging", "0", "--vanishing", "0"]
        status, said = await locust([edge.url], tmp_path, *only_steady, *load)
    assert status == 1, said
    assert {row["Error"] for row in table(tmp_path, "failures")} == {
        f"Broken({what!r})" for what in WRONG
    }
    (refused,) = [row for row in table(tmp_path, "stats") if row["Name"].startswith("429 ")]
    assert (refused["Type"], refused["Request Count"], refused["Failure Count"]) == (
        "again",
        "1",
        "0",
    )


async def test_locust_fails_when_no_answer_came(tmp_path: Path) -> None:
    async with ScriptedEdge(others={"POST streams": [refuse]}) as edge:
        status, said = await locust([edge.url], tmp_path, "-u", "1", "-t", "1s")
    assert status == 1
    assert "not one answer was read to its end" in said


async def test_k6_finds_nothing_wrong_with_a_real_stack(lore: Stack) -> None:
    for status, said in await asyncio.gather(k6("chat", lore.urls), k6("streams", lore.urls)):
        assert status == 0, said


async def test_k6_fails_for_a_chat_without_its_end() -> None:
    async def models(call: Connection) -> None:
        await call.answer(200, {"data": [{"id": "default"}]})

    async def half_a_chat(call: Connection) -> None:
        await call.open()
        choice = {"delta": {"content": "a"}, "finish_reason": "stop"}
        await call.send(f"data: {json.dumps({'choices': [choice]})}\n\n".encode())

    others = {"GET models": [models], "POST completions": [half_a_chat]}
    async with ScriptedEdge(others=others) as edge:
        status, said = await k6("chat", [edge.url])
    assert status == 99, said
    assert failed_checks(said) == {"it ends with [DONE]"}


async def test_k6_fails_for_a_stream_with_a_gap() -> None:
    async def gap(stream: Connection) -> None:
        await skip(stream)
        await stream.end(2)

    async def view(call: Connection) -> None:
        await call.answer(200, {**VIEW, "status": "done", "text": "ac"})

    others = {"POST streams": [take], "GET r": [view]}
    async with ScriptedEdge(streams=[gap], others=others) as edge:
        status, said = await k6("streams", [edge.url])
    assert status == 99, said
    assert failed_checks(said) == {"no seq is missing or doubled"}


def failed_checks(said: str) -> set[str]:
    summary = said.partition("TOTAL RESULTS")[2]
    return {line.strip()[2:] for line in summary.splitlines() if line.strip().startswith("✗ ")}
