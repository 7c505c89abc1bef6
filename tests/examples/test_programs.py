"""The examples that are programs, each as its head says to run it."""

import os
import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest

from lore_client.sse import SseParser
from tests import programs
from tests.examples.stack import EXAMPLES, LIMIT_S, NODE, Stack, run
from tests.services.scripted_edge import Connection, ScriptedEdge

LANGUAGES = pytest.mark.parametrize(
    ("program", "suffix"), [(sys.executable, "py"), (NODE, "mjs")], ids=["python", "node"]
)
CUTS = 3
MOST_BYTES = 6_500
"""Beyond what opens a response, so that its text is cut; as often as that, far from its end."""


@LANGUAGES
async def test_a_chat_says_the_answer(stack: Stack, program: str, suffix: str) -> None:
    out, err = await run(program, f"openai_chat.{suffix}", env=stack.environment(stack.edges[0]))
    assert out == await stack.text(err.strip()) + "\n" != "\n"


@pytest.mark.parametrize("program", ["langchain_chat.py", "litellm_chat.py"])
async def test_two_turns_say_two_answers(stack: Stack, program: str) -> None:
    """The second question comes with the first answer, as the library writes it."""
    python = Path(sys.prefix) / "clients" / "bin" / "python"
    if shutil.which(python) is None:
        pytest.skip("LangChain and LiteLLM are not installed here (make setup)")
    before = {view["request_id"] for view in (await stack.get("/v1/streams"))["streams"]}
    out, _ = await run(str(python), program, env=stack.environment(stack.edges[0]))
    views = (await stack.get("/v1/streams?limit=3"))["streams"]
    second, first = [view["request_id"] for view in views if view["request_id"] not in before]
    answers = [await stack.text(name) for name in (first, second)]
    assert out == "".join(f"{answer}\n" for answer in answers)
    assert all(answers)


@LANGUAGES
async def test_a_background_response_is_read_on_after_each_cut(
    stack: Stack, program: str, suffix: str
) -> None:
    """P1, P12"""
    cuts: Counter[str] = Counter()
    async with stack.balancer(cuts, CUTS, MOST_BYTES) as balancer:
        env = stack.environment(balancer.url)
        out, err = await run(program, f"openai_background.{suffix}", env=env)
        name = err.strip()
        again, _ = await run(program, f"openai_background.{suffix}", name, env=env)
    assert cuts == {name: CUTS}
    assert out == again == await stack.text(name) + "\n" != "\n"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_curl_goes_on_at_the_other_edge(stack: Stack) -> None:
    """P12; P8, as curl acknowledges nothing itself."""
    # As late as the answer, of 2 s, surely goes on: on a busy machine its first chunk comes late.
    env = stack.environment(stack.edges[0]) | {"CUT_AFTER_S": "1.5"}
    out, err = await run("./curl.sh", env=env)
    assert "cut off after chunk" in err
    assert "cut off after chunk 0;" not in err
    assert "the same text as the edge has" in err
    events = list(SseParser().feed(out.encode()))
    assert [event.event for event in events].count("state") >= 2, "one connection is none cut"
    assert events[-1].event == "end"


QUESTION = "What is \"x\"?\nAnd C:\\new,\tor $(this) & 'that' `there`: 100 %s? \u00e4"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_curl_asks_a_question_of_any_characters() -> None:
    view = {"request_id": "r", "status": "done", "text": "No.", "stream_url": "/v1/streams/r"}

    async def asked(connection: Connection) -> None:
        await connection.answer(201, view)

    async def whole(connection: Connection) -> None:
        await connection.answer(200, view)

    async def answer(connection: Connection) -> None:
        await connection.open()
        await connection.chunk(1, "No.")

    async def end(connection: Connection) -> None:
        await connection.open()
        await connection.end(1)

    others = {"POST streams": [asked], "GET r": [whole]}
    async with ScriptedEdge(streams=[answer, end], others=others) as edge:
        env = os.environ | {"LORE_URL": edge.url, "LORE_OTHER_URL": edge.url, "CUT_AFTER_S": "5"}
        await run("./curl.sh", QUESTION, env=env)
        (call,) = edge.named("POST streams")
    assert call.json()["question"] == QUESTION


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_curl_says_why_a_question_was_refused() -> None:
    async def refused(connection: Connection) -> None:
        await connection.answer(401, {"error": {"message": "invalid credentials"}})

    async with ScriptedEdge(streams=[], others={"POST streams": [refused]}) as edge:
        env = os.environ | {"LORE_URL": edge.url}
        status, _, err = await programs.run("./curl.sh", env=env, limit_s=LIMIT_S, folder=EXAMPLES)
    assert status != 0
    assert "invalid credentials" in err
