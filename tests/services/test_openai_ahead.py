"""Readers who have more of a live answer than the store, which has lost the log's tail. They wait
until its generator has given that back (P3), and get what follows then.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx
import pytest

from lore.protocol.chunk import Chunk
from tests.services.edge_harness import FaultyStore, Writer, fork, running_edge
from tests.services.openai_harness import MODEL
from tests.services.test_openai_logprobs import scored
from tests.services.test_openai_tools import CHUNKS, FLAT, QUESTION, TOOL, _events, writer_of

LAST = 10**9
KEPT = 3
"""How many chunks the store has left."""
ASKED: dict[str, Any] = {
    "responses": {"model": MODEL, "input": "a", "background": True},
    "chat/completions": {"model": MODEL, "messages": QUESTION, "tools": [TOOL], "stream": True},
    "completions": {"model": MODEL, "prompt": "a", "logprobs": 0, "stream": True},
}
NAMES = {"responses": "resp_", "chat/completions": "chatcmpl-", "completions": "cmpl-"}
WORDS = ["Once", " upon", " a", " time", ",", " there", " was"]


class Asked:
    """An answer of which the store has KEPT chunks, for readers of ``api``."""

    def __init__(self, store: FaultyStore, http: httpx.AsyncClient, writer: Writer, api: str):
        self.store, self.http, self.writer = store, http, writer
        self.api, self._url = api, f"/v1/{api}/{NAMES[api]}{writer.request_id}?stream=true"

    async def open(self, has: int | None) -> httpx.Response:
        """The stream of a reader who has events up to this one. Returns with its head."""
        url, headers = self._url, {}
        if has is not None and self.api == "responses":
            url = f"{url}&starting_after={has}"
        elif has is not None:
            headers = {"Last-Event-ID": str(has)}
        return await self.http.send(
            self.http.build_request("GET", url, headers=headers), stream=True
        )

    async def write(self, texts: Sequence[str]) -> None:
        """Each text is a token, with a log probability if they are asked for."""
        for text in texts:
            seq = len(self.writer.chunks) + 1
            more = (scored(seq, text.encode()),) if "logprobs" in ASKED[self.api] else ()
            chunk = Chunk(seq, text, (seq,), seq, more)
            await self.writer.append([chunk])
            self.writer.chunks.append(chunk)


@contextlib.asynccontextmanager
async def asked(api: str, *texts: str, **more: Any) -> AsyncIterator[Asked]:
    store, parts = FaultyStore(), "hermes" if texts == tuple(WORDS) else "hermes+think"
    await store.tell_model({"model": MODEL, "parts": parts}, keep_ms=600_000)
    async with running_edge(store) as edge, edge.client() as http:
        body = ASKED[api] | more
        post = http.build_request("POST", f"/v1/{api}", json=body)
        asking = asyncio.create_task(http.send(post, stream=True))
        writer = await writer_of(store)
        answer = Asked(store, http, writer, api)
        await answer.write(texts[:KEPT])
        await asking
        yield answer


async def events_of(response: httpx.Response) -> list[tuple[int, Any]]:
    """With their numbers; an event without one counts as the last."""
    assert response.status_code == 200, await response.aread()
    await response.aread()
    found: list[tuple[int, Any]] = []
    for event_id, data in _events(response.text):
        number = event_id or (data.get("sequence_number") if data != "[DONE]" else None)
        found.append((LAST if number is None else int(number), data))
    return found


@pytest.mark.rule("O5", "O7", "O22", "O23", "O26", "P1.1", "P19.2")
@pytest.mark.parametrize(
    ("api", "texts", "more"),
    [
        ("responses", WORDS, {}),
        ("responses", CHUNKS, {"tools": [FLAT]}),
        ("chat/completions", CHUNKS, {}),
        ("completions", WORDS, {}),
    ],
    ids=["a response", "a response with parts", "a chat with parts", "a completion's offsets"],
)
async def test_a_reader_who_is_ahead_waits_and_gets_exactly_what_follows(
    api: str, texts: list[str], more: dict[str, Any]
) -> None:
    async with asked(api, *texts, **more) as answer:
        readers = {has: await answer.open(has) for has in range(len(texts))}
        await answer.write(texts[KEPT:])
        await answer.writer.finish()
        whole = await events_of(await answer.open(None))
        for has, reader in readers.items():
            assert await events_of(reader) == [one for one in whole if one[0] > has], has


@pytest.mark.rule("O7", "P4.5")
@pytest.mark.parametrize("api", ["responses", "chat/completions", "completions"])
@pytest.mark.parametrize("forked", [False, True], ids=["ends", "forks"])
async def test_a_reader_who_stays_ahead_is_told_that_its_history_is_lost(
    api: str, forked: bool
) -> None:
    """Another generator goes on where the store's log ends, or the answer ends there."""
    more = {"tools": [FLAT]} if api == "responses" else {}
    async with asked(api, *CHUNKS, **more) as answer:
        reader = await answer.open(len(CHUNKS))
        if forked:
            await (await fork(answer.store, answer.writer, KEPT, *CHUNKS[KEPT:])).finish()
        else:
            await answer.writer.finish()
        ((_, said),) = await events_of(reader)
    assert said.get("error", said)["code"] == "history_lost"
