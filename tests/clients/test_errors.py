"""What each client makes of each fault: what it raises, and whether it asks again.

A fault is a line of ``FAULTS``; every client's every way is asked once for each. Clients shorten
their history for ``context_length_exceeded``, come back after what passes, and leave the rest.
"""

import asyncio
import contextlib
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from lore.protocol.lifecycle import LIVE
from lore.store.base import Opened, Outcome, StoreUnavailable
from lore.store.types import Open, StoreFull
from lore_edge.wire.asgi import header
from tests import programs
from tests.clients.scripted import ScriptedStore
from tests.clients.test_round_trips import HERE, LIMIT_S, OTHERS
from tests.examples.stack import NODE, OFFLINE
from tests.services.auth_harness import KeyRing
from tests.services.edge_harness import running_edge
from tests.services.openai_harness import MODEL
from tests.services.words import words

PROGRAMS = {
    "openai for Python": (sys.executable, "errors_python.py"),
    "Node": (NODE, "errors.mjs"),
    "LangChain and LiteLLM": (str(OTHERS), "errors_others.py"),
}


class FaultyStore(ScriptedStore):
    fault = ""

    async def do(self, command: Any) -> Any:
        if isinstance(command, Open) and self.fault == "queue_full":
            return Opened(Outcome.FULL, False, None)
        if isinstance(command, Open) and self.fault == "store_away":
            raise StoreUnavailable("it is away")
        if isinstance(command, Open) and self.fault == "store_full":
            full = StoreFull("it is full")
            full.retry_after_s = 1.0
            raise full
        return await super().do(command)


@dataclass(frozen=True)
class Fault:
    status: int | None
    """Of a whole answer; None where the answer itself tells, and nothing is raised."""
    code: str = ""
    retried: bool = False
    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    early: bool = True
    """Found before a stream begins, so that it is the same there."""


FAULTS = {
    "wrong_key": Fault(401, "invalid_api_key"),
    "wrong_model": Fault(404, "model_not_found"),
    "too_long": Fault(400, "context_length_exceeded"),
    "refused_by_the_generator": Fault(400, "context_length_exceeded"),
    "too_many": Fault(429, "rate_limit_exceeded", retried=True, settings={"streams_per_client": 1}),
    "queue_full": Fault(429, "rate_limit_exceeded", retried=True),
    "store_away": Fault(503, "store_unavailable", retried=True),
    "store_full": Fault(503, "store_full", retried=True),
    "cancelled": Fault(400, "cancelled", early=False),
    "failed": Fault(500, "server_error", early=False),
}
RAISED = {
    401: {"AuthenticationError", "OpenAIAuthenticationError", "AI_APICallError"},
    404: {"NotFoundError", "OpenAIModelNotFoundError", "AI_APICallError"},
    400: {"BadRequestError", "OpenAIInvalidRequestError", "AI_APICallError"},
    429: {"RateLimitError", "OpenAIRateLimitError", "AI_APICallError"},
    500: {"InternalServerError", "OpenAIAPIError", "AI_APICallError"},
    503: {"InternalServerError", "OpenAIAPIError", "ServiceUnavailableError", "AI_APICallError"},
}
TOO_LONG = {
    "langchain": "OpenAIContextOverflowError",
    "litellm": "ContextWindowExceededError",
}
"""Those who have a name for it."""
"""By what each client calls it."""


def answers(way: str) -> bool:
    """A response that was cancelled, or failed, is one all the same."""
    return "responses" in way or "openai()" in way


@dataclass
class Place:
    stores: dict[str, FaultyStore]
    addresses: dict[str, str]
    tries: Counter[str]


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    """An edge for each fault, which counts what each way asks of it."""
    ring = KeyRing(tmp_path / "keys")
    ring.new("somebody")
    file = tmp_path / "tokenizer.json"
    words().save(str(file))
    found = Place({}, {}, Counter())
    async with contextlib.AsyncExitStack() as stack:
        for name, fault in FAULTS.items():
            store = found.stores[name] = FaultyStore()
            store.fault = name
            settings = fault.settings | (ring.settings if name == "wrong_key" else {})
            if name in ("too_long", "refused_by_the_generator"):
                tokens = 2 if name == "too_long" else 12  # fewer than it has bytes
                await store.tell_model({"context_tokens": str(tokens)}, keep_ms=600_000)
                settings["tokenizer"] = str(file)
            edge = await stack.enter_async_context(running_edge(store, model=MODEL, **settings))
            serve = edge.edge._answer

            async def counted(
                scope: Any, receive: Any, send: Any, serve: Any = serve, name: str = name
            ) -> None:
                if scope["method"] == "POST":
                    way = header(scope, b"authorization").removeprefix("Bearer ")
                    found.tries[f"{name}/{way}"] += 1
                await serve(scope, receive, send)

            edge.edge._answer = counted
            found.addresses[name] = edge.url
            if name == "too_many":
                async with edge.client() as client:
                    asked = await client.post("/v1/streams", json={"question": "wait"})
                    assert asked.status_code == 201
        yield found


def wrong(key: str, said: dict[str, Any], tries: int) -> str:
    name, _, way = key.partition("/")
    fault = FAULTS[name]
    streamed = "streamed" in way
    if not fault.early and answers(way):
        return "" if tries == 1 and ("ended" in said or "error" in said) else f"{key}: {tries}"
    if "error" not in said:
        return f"{key}: raised nothing: {said}"
    # The AI SDK asks again after any 5xx, whatever the answer says.
    again = fault.retried or (fault.status == 500 and "ai sdk" in way and not streamed)
    if tries != (2 if again else 1):
        return f"{key}: asked {tries} times"
    if streamed and not fault.early:
        return ""  # what a stream that has begun can say is a message
    names = RAISED[fault.status or 0]
    if fault.code == "context_length_exceeded":
        names = {TOO_LONG.get(way.partition(",")[0], "")} - {""} or names
    if said["error"] not in names or said["status"] not in (fault.status, None):
        return f"{key}: {said}"
    if said["code"] not in (fault.code, str(fault.status), None) and "litellm" not in way:
        return f"{key}: {said}"
    return ""


@pytest.mark.parametrize("client", PROGRAMS)
async def test_each_fault_is_raised_as_what_it_is(client: str, place: Place) -> None:
    program, name = PROGRAMS[client]
    if shutil.which(program) is None:
        pytest.skip(f"{client}: not installed here (make setup)")
    done = await programs.run(
        *(program, str(HERE / name), json.dumps(place.addresses)),
        env=os.environ | {"NO_PROXY": "*"} | OFFLINE,
        limit_s=LIMIT_S,
    )
    assert done.status == 0, done.out + done.err
    told = json.loads(done.out.strip("\n").rpartition("\n")[2])
    failures = [
        found
        for key, said in told.items()
        if (found := wrong(key, said, place.tries[key.replace(" ", "_")]))
    ]
    print(f"{client}: {len(told)} cases, {len(failures)} wrong")
    assert not failures, "\n".join(failures)
    for name, store in place.stores.items():
        views = [await store.view(i) for ids in store.requests.values() for i in ids]
        live = [view for view in views if view is not None and view.status in LIVE]
        assert len(live) == (name == "too_many"), "what failed leaves nothing behind"
    await asyncio.sleep(0)
