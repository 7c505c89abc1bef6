"""The official OpenAI SDK, unmodified, against two edges that want a key."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import openai
import pytest
import pytest_asyncio

from tests.services.auth_harness import KeyRing
from tests.services.cutting_proxy import CuttingProxy
from tests.services.openai_harness import (
    MODEL,
    WHOLE,
    kinds,
    read_through_cuts,
    sdk,
    strict,
    strict_event,
    text_of,
)
from tests.services.test_edge_process import edge_process
from tests.services.test_generator_process import GeneratorProcess
from tests.valkeys import Daemon

pytestmark = pytest.mark.asyncio(loop_scope="module")

CUTS = 20
MOST_BYTES = 2_000
"""Less than the last event has, so that no stream ends before it was cut often enough."""
ASKED: dict[str, Any] = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "What is a loop?"}],
    "seed": 7,
}


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> KeyRing:
    return KeyRing(tmp_path_factory.mktemp("keys") / "keys")


@pytest.fixture(scope="module")
def key(keys: KeyRing) -> str:
    return keys.new("alice")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def urls(keys: KeyRing, key: str) -> AsyncIterator[list[str]]:
    """Where the edges are. A heartbeat is due between any two events."""
    settings: dict[str, Any] = {"model": MODEL, "heartbeat_s": 0.005} | keys.settings
    async with AsyncExitStack() as stack:
        url = stack.enter_context(Daemon(save="")).connection_url
        await stack.enter_async_context(
            GeneratorProcess(url, synthetic_rate=150, synthetic_length=300)
        )
        edges = [
            await stack.enter_async_context(edge_process(valkey_url=url, edge_id=name, **settings))
            for name in ("edge-1", "edge-2")
        ]
        yield [f"http://127.0.0.1:{edge.port}" for edge in edges]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def clients(urls: list[str], key: str) -> AsyncIterator[list[openai.AsyncOpenAI]]:
    async with sdk(urls[0], api_key=key) as one, sdk(urls[1], api_key=key) as two:
        yield [one, two]


@pytest.mark.rule("O1")
async def test_a_streamed_chat_is_the_same_answer_as_a_whole_one(
    clients: list[openai.AsyncOpenAI],
) -> None:
    one, two = clients
    options: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
    stream = await one.chat.completions.create(**ASKED, **options)
    found: list[Any] = [chunk async for chunk in stream]
    *chunks, finish, spent = found
    for chunk in (*chunks, finish, spent):
        strict(chunk)
    whole = await two.chat.completions.create(**ASKED)
    strict(whole)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content for chunk in chunks) == (
        whole.choices[0].message.content
    )
    assert finish.choices[0].finish_reason == whole.choices[0].finish_reason == "stop"
    assert (spent.choices, spent.usage) == ([], whole.usage)
    assert len({chunk.id for chunk in chunks}) == 1


@pytest.mark.rule("O5")
async def test_a_chat_may_be_read_again_on_the_other_edge(
    clients: list[openai.AsyncOpenAI],
) -> None:
    """By the id in the header, in the same dialect, after any chunk."""
    one, two = clients
    async with one.chat.completions.with_streaming_response.create(**ASKED, stream=True) as first:
        request_id = first.headers["x-request-id"]
        lines = [line async for line in first.iter_lines()]
    blocks = _events(lines)
    after = "3"
    again = two.chat.completions.with_streaming_response.retrieve(
        f"chatcmpl-{request_id}",
        extra_query={"stream": "true"},
        extra_headers={"Last-Event-ID": after},
    )
    async with again as second:
        rest = _events([line async for line in second.iter_lines()])
    assert rest == blocks[4:], "the opening and three chunks were had"
    assert blocks[-1] == ["data: [DONE]"]
    strict(await two.chat.completions.retrieve(f"chatcmpl-{request_id}"))


def _events(lines: list[str]) -> list[list[str]]:
    """Without heartbeats."""
    text = "\n".join(line for line in lines if line != ":").strip("\n")
    return [block.split("\n") for block in text.split("\n\n")]


@pytest.mark.rule("O1", "O6")
async def test_a_streamed_response_counts_its_events_and_ends_with_the_whole(
    clients: list[openai.AsyncOpenAI],
) -> None:
    one, two = clients
    stream = await one.responses.create(
        model=MODEL, input="What is a list?", instructions="Be brief.", stream=True
    )
    events: list[Any] = [event async for event in stream]
    for event in events:
        strict_event(event)
    assert kinds(events) == WHOLE
    assert [event.sequence_number for event in events] == list(range(len(events)))
    whole = events[-1].response
    assert text_of(events) == whole.output_text != ""
    kept = await two.responses.retrieve(whole.id)
    assert strict(kept) == strict(whole)
    assert (kept.instructions, kept.status) == ("Be brief.", "completed")
    more: Any = ["reasoning.encrypted_content", "web_search_call.results"]
    (item,) = (await two.responses.input_items.list(whole.id, include=more)).data
    strict(item)


@pytest.mark.rule("O1")
async def test_a_background_response_is_resumed_by_both_paths_under_twenty_cuts(
    urls: list[str], key: str
) -> None:
    """P1, P12: whatever is cut, and wherever it goes on, no event is lost or comes twice."""
    cuts: Counter[str] = Counter()
    rng = random.Random(4)
    settings: dict[str, Any] = {"times": CUTS, "rng": rng, "most_bytes": MOST_BYTES}
    async with (
        CuttingProxy(urls[0], cuts, **settings) as near,
        CuttingProxy(urls[1], cuts, **settings) as far,
        sdk(near.url, api_key=key, max_retries=0) as one,
        sdk(far.url, api_key=key, max_retries=0) as two,
        asyncio.timeout(120),
    ):
        asked = [
            await one.responses.create(model=MODEL, input=f"Story {number}", background=True)
            for number in range(3)
        ]
        assert {response.status for response in asked} <= {"queued", "in_progress"}
        read = await asyncio.gather(*(read_through_cuts(r.id, [one, two], rng) for r in asked))
        kept = [await two.responses.retrieve(response.id) for response in asked]
    assert cuts == {response.id: CUTS for response in asked}
    for events, whole in zip(read, kept, strict=True):
        assert kinds(events) == WHOLE
        assert [event.sequence_number for event in events] == list(range(len(events)))
        assert text_of(events) == events[-1].response.output_text == whole.output_text != ""
        assert events[-1].response.status == whole.status == "completed"


async def test_what_is_refused_raises_the_sdks_errors(
    clients: list[openai.AsyncOpenAI], urls: list[str]
) -> None:
    one, _ = clients
    async with sdk(urls[0], api_key="wrong") as stranger:
        with pytest.raises(openai.AuthenticationError):
            await stranger.models.list()
    with pytest.raises(openai.BadRequestError) as refused:
        await one.chat.completions.create(**ASKED, n=2)
    assert (refused.value.code, refused.value.param) == ("unsupported_value", "n")
    with pytest.raises(openai.BadRequestError) as refused:
        await one.responses.create(model=MODEL, input="a", extra_body={"colour": "blue"})
    assert (refused.value.code, refused.value.param) == ("unknown_parameter", "colour")
    with pytest.raises(openai.NotFoundError) as unknown:
        await one.chat.completions.create(model="gpt-4", messages=ASKED["messages"])
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        await one.responses.retrieve("resp_" + "A" * 22)
    (model,) = (await one.models.list()).data
    strict(model)
    assert await one.models.retrieve(MODEL) == model
    with pytest.raises(openai.NotFoundError):
        await one.models.retrieve("gpt-4")


@pytest.mark.rule("O6")
async def test_a_cancelled_response_says_so_and_a_deleted_one_is_gone(
    clients: list[openai.AsyncOpenAI],
) -> None:
    one, two = clients
    asked = await one.responses.create(model=MODEL, input="Go on", background=True)
    cancelled = await two.responses.cancel(asked.id)
    strict(cancelled)
    assert cancelled.status == "cancelled"
    assert (await one.responses.cancel(asked.id)).status == "cancelled"
    stream = await one.responses.retrieve(asked.id, stream=True)
    events: list[Any] = [event async for event in stream]
    last = events[-1]
    strict_event(last)
    assert (last.type, last.response.status) == ("response.incomplete", "cancelled")
    await two.responses.delete(asked.id)
    with pytest.raises(openai.NotFoundError):
        await one.responses.retrieve(asked.id)
