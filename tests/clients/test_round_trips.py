"""Whatever Lore answered is taken back in the next turns, as each client writes it.

A client is a program that carries on conversations in each of its ways; an outcome is a line of
``OUTCOMES``. What the generator gets in turn 2 and 3 has to be what the client was told.
"""

import json
import os
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from lore.protocol.lifecycle import Status
from tests import programs
from tests.clients.scripted import OUTCOMES, ScriptedStore
from tests.examples.stack import NODE, OFFLINE
from tests.services.edge_harness import RunningEdge, running_edge
from tests.services.openai_harness import MODEL

HERE = Path(__file__).parent
OTHERS = Path(sys.prefix) / "clients" / "bin" / "python"
PROGRAMS = {
    "openai for Python": (sys.executable, "openai_python.py"),
    "Node": (NODE, "conversations.mjs"),
    "LangChain and LiteLLM": (str(OTHERS), "langchain_litellm.py"),
}
TURNS = ("text", "text")
CONVERSATIONS = [(outcome, *TURNS) for outcome in OUTCOMES]
BY_NAME = {
    "responses, by previous_response_id",
    "node responses, by previous_response_id",
    "litellm responses",
}
"""Go on from the last response that they were given."""
LIMIT_S = 300.0


@pytest.fixture
async def store() -> ScriptedStore:
    return ScriptedStore()


@pytest.fixture
async def edge(store: ScriptedStore) -> AsyncIterator[RunningEdge]:
    async with running_edge(store, model=MODEL) as edge:
        yield edge


async def run(client: tuple[str, str], url: str, *argv: str, **settings: str) -> Any:
    """What a program says, or a skip where it has no interpreter."""
    program, name = client
    if shutil.which(program) is None:
        pytest.skip(f"{name}: not installed here (make setup)")
    env = os.environ | {"LORE_URL": url, "OPENAI_API_KEY": "any", "NO_PROXY": "*"} | OFFLINE
    env |= settings
    done = await programs.run(program, str(HERE / name), *argv, env=env, limit_s=LIMIT_S)
    assert done.status == 0, done.out + done.err
    return json.loads(done.out.strip("\n").rpartition("\n")[2])


def wrong(store: ScriptedStore, way: str, questions: list[str], turns: list[dict[str, Any]]) -> str:
    """What is not as it should be in a conversation, or ''."""
    history: list[tuple[str, str]] = []
    for question, turn in zip(questions, turns, strict=True):
        outcome = OUTCOMES[question.partition(" ")[0]]
        asked = f"{question}, {way}"
        history.append(("user", asked))
        if asked not in store.asked:
            return f"{asked}: never asked: {turn}"
        got = [(message.role, message.content) for message in store.asked[asked]]
        if got != history:
            return f"{asked}: asked {got} and not {history}"
        said = turn["said"]
        ended_well = outcome.status is Status.DONE
        if ended_well and (said or "") != outcome.text:
            return f"{asked}: said {said!r} and not {outcome.text!r}: {turn}"
        if not outcome.text.startswith(said or ""):
            return f"{asked}: said {said!r}, which was not answered"
        if said is not None:
            history.append(("assistant", said))
        elif "error" in turn and way in BY_NAME:
            history.pop()  # there is no response to name
    return ""


@pytest.mark.rule("O18")
@pytest.mark.parametrize("client", PROGRAMS)
async def test_what_was_answered_is_taken_back(
    client: str, store: ScriptedStore, edge: RunningEdge
) -> None:
    conversations = [
        [f"{outcome} {number}.{turn}" for turn, outcome in enumerate(outcomes)]
        for number, outcomes in enumerate(CONVERSATIONS)
    ]
    told = await run(PROGRAMS[client], edge.url, json.dumps(conversations))
    cases = [
        (way, questions, turns)
        for way, found in told.items()
        for questions, turns in zip(conversations, found, strict=True)
    ]
    failures = [found for case in cases if (found := wrong(store, *case))]
    print(f"{client}: {len(cases)} conversations, {len(failures)} wrong")
    assert not failures, "\n".join(failures)
