"""What OpenAI's SDKs ask again joins the answer that is being made.

They say so in ``x-stainless-retry-count``.
"""

import asyncio
import re
from typing import Any

import httpx
import pytest

from lore.protocol.commands import Cancel
from lore.protocol.lifecycle import Status
from tests.services.edge_harness import FaultyStore, RunningEdge, Writer, running_edge, until
from tests.services.openai_harness import MODEL, sdk, text_of

BODY: dict[str, Any] = {"model": MODEL, "input": "a", "background": True}


async def ask(
    client: httpx.AsyncClient,
    attempt: int | None,
    body: dict[str, Any] = BODY,
    key: str = "",
    bearing: dict[str, str] | None = None,
) -> str:
    """The id of the response."""
    count = {} if attempt is None else {"x-stainless-retry-count": str(attempt)}
    headers = count | (bearing or {}) | ({"idempotency-key": key} if key else {})
    answer = await client.post("/v1/responses", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()["id"]


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore()


@pytest.mark.rule("O12")
async def test_a_retry_joins_the_request_on_any_edge(store: FaultyStore) -> None:
    async with (
        running_edge(store, model=MODEL) as one,
        running_edge(store, model=MODEL, edge_id="edge-2") as two,
        one.client() as near,
        two.client() as far,
    ):
        first = await ask(near, 0)
        assert await ask(far, 1) == await ask(near, 2) == first
        assert len(store.state._records) == 1


CASES = [
    ("without the header equal calls stay two", [(None, BODY), (None, BODY)], 2),
    ("first attempts stay two", [(0, BODY), (0, BODY)], 2),
    ("a retry joins what had no header", [(None, BODY), (1, BODY)], 1),
    ("another body is new", [(0, BODY), (1, BODY | {"input": "b"})], 2),
    ("another limit is new", [(0, BODY), (1, BODY | {"max_output_tokens": 3})], 2),
    ("two that are retried find each their own", [(0, BODY), (0, BODY), (1, BODY), (1, BODY)], 2),
    ("a retry of nothing is new", [(1, BODY)], 1),
    ("nonsense counts for nothing", [(0, BODY), (-1, BODY)], 2),
]


@pytest.mark.rule("O12")
@pytest.mark.parametrize(("calls", "made"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
async def test_what_is_joined_and_what_is_new(
    store: FaultyStore, calls: list[tuple[int | None, dict[str, Any]]], made: int
) -> None:
    async with running_edge(store, model=MODEL) as edge, edge.client() as client:
        ids = [await ask(client, attempt, body) for attempt, body in calls]
        assert len(set(ids)) == len(store.state._records) == made


@pytest.mark.rule("O12")
@pytest.mark.parametrize(
    ("status", "joins"),
    [(Status.DONE, True), (Status.FAILED, False), (Status.CANCELLED, False)],
)
async def test_what_came_to_nothing_is_asked_anew(
    store: FaultyStore, status: Status, joins: bool
) -> None:
    async with running_edge(store, model=MODEL) as edge, edge.client() as client:
        first = await ask(client, 0)
        await end(store, first.removeprefix("resp_"), status)
        assert (await ask(client, 1) == first) is joins


async def end(store: FaultyStore, request_id: str, status: Status) -> None:
    if status is Status.CANCELLED:
        await store.do(Cancel(request_id, retention_ms=60_000))
        return
    writer = Writer(store, request_id)
    await writer.claim()
    await writer.finish(status)


async def test_a_key_counts_before_a_retry(store: FaultyStore) -> None:
    async with running_edge(store, model=MODEL) as edge, edge.client() as client:
        first = await ask(client, 0)
        keyed = await ask(client, 1, key="k")
        assert keyed != first
        assert await ask(client, 2, key="k") == keyed


@pytest.mark.rule("O12")
async def test_nobody_joins_somebody_elses(store: FaultyStore, tmp_path: Any) -> None:
    from tests.services.auth_harness import KeyRing, bearer

    ring = KeyRing(tmp_path / "keys")
    mine, theirs = ring.new("me"), ring.new("them")
    async with (
        running_edge(store, model=MODEL, **ring.settings) as edge,
        edge.client() as client,
    ):
        first = await ask(client, 0, bearing=bearer(mine))
        assert await ask(client, 1, bearing=bearer(theirs)) != first
        assert await ask(client, 1, bearing=bearer(mine)) == first


async def test_a_window_of_nothing_joins_nothing(store: FaultyStore) -> None:
    edge: RunningEdge
    async with (
        running_edge(store, model=MODEL, retry_window_s=0) as edge,
        edge.client() as client,
    ):
        assert await ask(client, 0) != await ask(client, 1)


class ImpatientProxy:
    """Answers 504 to a POST that the edge has accepted, ``times`` times, as a proxy whose time
    is up; passes on what comes later."""

    def __init__(self, edge: RunningEdge, store: FaultyStore, times: int) -> None:
        self._edge = edge
        self._store = store
        self._times = times
        self.posts = 0

    async def __aenter__(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        head = await near.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        body = await near.readexactly(int(length[1])) if length else b""
        self.posts += 1
        far, forth = await asyncio.open_connection("127.0.0.1", self._edge.port)
        try:
            forth.write(head.replace(b"keep-alive", b"close") + body)
            if self.posts <= self._times:
                await until(lambda: self._store.state._records)
                back.write(b"HTTP/1.1 504 Gateway Timeout\r\ncontent-length: 0\r\n")
                back.write(b"connection: close\r\n\r\n")
            else:
                while data := await far.read(65_536):
                    back.write(data)
            await back.drain()
        finally:
            forth.close()
            back.close()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("api", ["chat", "responses"])
async def test_a_proxy_whose_time_is_up_leaves_no_orphans(
    store: FaultyStore, api: str, stream: bool
) -> None:
    """The SDK asks three times; there is one answer, and it reads that."""
    async with running_edge(store, model=MODEL) as edge:
        proxy = ImpatientProxy(edge, store, 2)
        async with proxy as url, sdk(url, max_retries=2) as client:
            asked: dict[str, Any] = {"model": MODEL, "stream": stream}
            if api == "chat":
                messages: Any = [{"role": "user", "content": "a"}]
                call: Any = client.chat.completions.create(messages=messages, **asked)
            else:
                call = client.responses.create(input="a", **asked)
            asking = asyncio.create_task(call)
            await until(lambda: proxy.posts == 3)
            (request_id,) = store.state._records
            writer = Writer(store, request_id)
            await writer.claim()
            await writer.write("a", "b")
            await writer.finish()
            answer: Any = await asking
            if not stream:
                text = answer.choices[0].message.content if api == "chat" else answer.output_text
            elif api == "chat":
                text = "".join([chunk.choices[0].delta.content or "" async for chunk in answer])
            else:
                text = text_of([event async for event in answer])
            assert text == "ab"
    assert len(store.state._records) == 1
