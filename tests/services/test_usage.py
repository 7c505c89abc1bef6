"""What an answer used is told alike wherever it is told, however it ended.

An outcome is a line of ``OUTCOMES``. Compared are the native stream's end, the JSON view, the
response as an object, the last event of its stream, the chat's usage, and what counts for the
limit on tokens (P17).
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import openai
import pytest

from lore.protocol.commands import Cancel, Reap, Release, Revive
from lore.protocol.lifecycle import ENDED, Status
from lore.store.base import View
from lore_edge.admission.limits import _used_tokens
from lore_generator.engine import EngineInfo, Piece, Sink
from lore_generator.engines.synthetic import SyntheticEngine
from tests.services.edge_harness import FaultyStore, RunningEdge, request, running_edge, until
from tests.services.generator_harness import Generator, SyntheticOptions
from tests.services.openai_harness import MODEL, sdk

QUESTION = "what is a loop in five words"
PROMPT_TOKENS = len(QUESTION.split())
LENGTH = 40
QUICK = SyntheticOptions(rate_tokens_per_s=500, length_tokens=LENGTH)
SLOW = SyntheticOptions(rate_tokens_per_s=100, length_tokens=10_000)
Act = Callable[[FaultyStore, str, Generator], Awaitable[None]]


class Failing(SyntheticEngine):
    """Fails after some tokens."""

    def start(self, sink: Sink) -> EngineInfo:
        def fail(piece: Piece) -> Piece:
            self._left -= len(piece.token_ids)
            if self._left > 0:
                return piece
            self.cancel(piece.request_id)
            return piece._replace(finish_reason="error", error="the generator failed here")

        self._left = 20
        return super().start(lambda pieces: sink([fail(piece) for piece in pieces]))


async def nothing(store: FaultyStore, request_id: str, generator: Generator) -> None:
    pass


async def cancel(store: FaultyStore, request_id: str, generator: Generator) -> None:
    await until(lambda: view_of(store, request_id).generated_tokens >= 10)
    await store.do(Cancel(request_id, retention_ms=60_000))


async def reap(store: FaultyStore, request_id: str, generator: Generator) -> None:
    await until(lambda: view_of(store, request_id).generated_tokens >= 10)
    await store.do(Reap(request_id, idle_ms=-1, retention_ms=60_000))
    await until(lambda: view_of(store, request_id).status is Status.REAPED)


async def revive(store: FaultyStore, request_id: str, generator: Generator) -> None:
    await reap(store, request_id, generator)
    await store.do(Revive(request_id))


async def take_over(store: FaultyStore, request_id: str, generator: Generator) -> None:
    await until(lambda: view_of(store, request_id).generated_tokens >= 10)
    view = view_of(store, request_id)
    await store.do(Release(request_id, view.owner, view.epoch))


OUTCOMES: dict[str, tuple[Any, Act, dict[str, Any], int | None]] = {
    "done": (QUICK, nothing, {}, LENGTH),
    "length": (QUICK, nothing, {"max_output_tokens": 9}, 9),
    "failed": (Failing(QUICK), nothing, {}, 20),
    "cancelled": (SLOW, cancel, {}, None),
    "reaped": (SLOW, reap, {}, None),
    "resumed": (SyntheticOptions(rate_tokens_per_s=100, length_tokens=LENGTH), revive, {}, LENGTH),
    "taken over": (
        SyntheticOptions(rate_tokens_per_s=100, length_tokens=LENGTH),
        take_over,
        {},
        LENGTH,
    ),
}


def view_of(store: FaultyStore, request_id: str) -> View:
    return store.state._records[request_id].view


@pytest.mark.rule("O20")
@pytest.mark.parametrize("outcome", OUTCOMES)
async def test_the_same_figures_everywhere(outcome: str) -> None:
    engine, act, options, length = OUTCOMES[outcome]
    store = FaultyStore()
    async with (
        running_edge(store, model=MODEL) as edge,
        sdk(edge.url) as client,
        Generator(store, engine=engine) as generator,
    ):
        asked = await client.responses.create(
            model=MODEL, input=QUESTION, background=True, **options
        )
        request_id = asked.id.removeprefix("resp_")
        await act(store, request_id, generator)
        over = ENDED | {Status.REAPED}
        await until(lambda: view_of(store, request_id).status in over)
        told = await figures(store, edge, client, request_id)
    generated = view_of(store, request_id).generated_tokens
    assert length in (None, generated)
    assert set(told.values()) == {(PROMPT_TOKENS, generated, PROMPT_TOKENS + generated)}, told
    assert len(told) == (3 if outcome == "reaped" else 5)


async def figures(
    store: FaultyStore, edge: RunningEdge, client: openai.AsyncOpenAI, request_id: str
) -> dict[str, tuple[int, ...]]:
    """(prompt, answer, both) by where it is told."""
    told: dict[str, tuple[int, ...]] = {}
    view = await (await request(edge, "GET", f"/v1/streams/{request_id}")).json()
    spent = view["prompt_tokens"], view["generated_tokens"]
    told["view"] = (*spent, sum(spent))
    used = await _used_tokens(store, view_of(store, request_id))
    told["account"] = (spent[0], used - spent[0], used)
    whole = await client.responses.retrieve(f"resp_{request_id}")
    if view["status"] == "reaped":
        assert whole.usage is None, "it may go on"
        listed = await store.view(request_id)
        assert listed is not None
        told["store"] = (
            listed.prompt_tokens,
            listed.generated_tokens,
            listed.prompt_tokens + listed.generated_tokens,
        )
        return told
    told["object"] = _of(whole.usage, "input_tokens", "output_tokens")
    stream: Any = await client.responses.retrieve(f"resp_{request_id}", stream=True)
    last = [event async for event in stream][-1]
    told["stream"] = _of(last.response.usage, "input_tokens", "output_tokens")
    headers = {"accept": "text/event-stream"}
    native = await request(edge, "GET", f"/v1/streams/{request_id}", headers)
    usage = (await native.events("end"))[0].data["usage"]
    told["native stream"] = tuple(usage.values())
    return told


def _of(usage: Any, *names: str) -> tuple[int, ...]:
    parts: Sequence[int] = [getattr(usage, name) for name in names]
    return (*parts, usage.total_tokens)


@pytest.mark.rule("O20")
@pytest.mark.parametrize("options", [{}, {"max_tokens": 9}, {"stop": "e"}], ids=str)
async def test_a_chat_and_its_stream_tell_the_same(options: dict[str, Any]) -> None:
    store = FaultyStore()
    asked: dict[str, Any] = {
        "model": MODEL,
        "messages": [{"role": "user", "content": QUESTION}],
        "seed": 7,
    }
    async with (
        Generator(store, engine=QUICK),
        running_edge(store, model=MODEL) as edge,
        sdk(edge.url) as client,
    ):
        whole = await client.chat.completions.create(**asked, **options)
        stream: Any = await client.chat.completions.create(
            **asked, **options, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    assert chunks[-1].usage == whole.usage
    assert whole.usage is not None
    assert whole.usage.prompt_tokens == PROMPT_TOKENS
    assert whole.usage.total_tokens == PROMPT_TOKENS + whole.usage.completion_tokens
