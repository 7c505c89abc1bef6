"""Streams in OpenAI's way when something happens: leaving, cutting, stopping, reaping, forking.

The SDK reads, and a test plays the generator.
"""

import asyncio
from typing import Any

import openai
import pytest

from lore.protocol.commands import Reap
from lore.protocol.lifecycle import Status
from lore_edge.delivery import streams
from tests.services.edge_harness import (
    WAIT_S,
    FaultyStore,
    Writer,
    fork,
    request,
    running_edge,
    until,
)
from tests.services.edge_harness import text_of as native_text_of
from tests.services.generator_harness import CountingEngine, Generator, SyntheticOptions
from tests.services.openai_harness import MODEL, WHOLE, kinds, sdk, strict, strict_event, text_of

QUESTION: Any = [{"role": "user", "content": "What is a list?"}]
TEXTS = ("a", "“b”\n", "", "🙂", "e")


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore()


async def the_request(store: FaultyStore) -> str:
    """The id of the one there is, once there is one."""
    records = store.state._records
    await until(lambda: records)
    (request_id,) = records
    return request_id


async def writer_of(store: FaultyStore) -> Writer:
    writer = Writer(store, await the_request(store))
    await writer.claim()
    return writer


async def answered(store: FaultyStore, client: openai.AsyncOpenAI, **options: Any) -> str:
    """A stored response that has ended."""
    response = await client.responses.create(
        model=MODEL, input="What is a list?", background=True, **options
    )
    writer = await writer_of(store)
    await writer.write(*TEXTS)
    await writer.finish()
    return response.id


async def events_of(stream: Any) -> list[Any]:
    async with asyncio.timeout(WAIT_S):
        return [event async for event in stream]


# where a reader goes on


@pytest.mark.rule("O5", "O6", "O7")
async def test_after_each_event_comes_exactly_what_follows_on_any_edge(store: FaultyStore) -> None:
    async with (
        running_edge(store, model=MODEL) as edge,
        running_edge(store, model=MODEL, edge_id="edge-2") as other,
        sdk(edge.url) as client,
        sdk(other.url) as second,
    ):
        response_id = await answered(store, client)
        events = await events_of(await client.responses.retrieve(response_id, stream=True))
        assert [event.sequence_number for event in events] == list(range(8 + len(TEXTS)))
        assert text_of(events) == events[-1].response.output_text == "".join(TEXTS)
        for had in range(len(events)):
            rest = await second.responses.retrieve(response_id, stream=True, starting_after=had)
            assert await events_of(rest) == events[had + 1 :]
        with pytest.raises(openai.APIStatusError) as lost:
            await second.responses.retrieve(response_id, stream=True, starting_after=len(events))
        assert (lost.value.status_code, lost.value.code) == (410, "history_lost")


@pytest.mark.rule("O2")
async def test_a_chat_goes_on_in_lores_own_way(store: FaultyStore) -> None:
    """The header names the request, and the ids are the native stream's."""
    async with running_edge(store, model=MODEL) as edge, sdk(edge.url) as client:
        ask = client.chat.completions.with_streaming_response.create(
            model=MODEL, messages=QUESTION, stream=True
        )
        async with ask as response:
            writer = await writer_of(store)
            await writer.write("a", "b", "c")
            request_id = response.headers["x-request-id"]
            lines = response.iter_lines()
            while await anext(lines) != "id: 2":
                pass
        await writer.finish()
        assert request_id == writer.request_id
        headers = {"accept": "text/event-stream", "last-event-id": "2"}
        native = await request(edge, "GET", f"/v1/streams/{request_id}", headers)
        assert native_text_of(await native.events()) == "c"


@pytest.mark.rule("O7", "P4.5")
async def test_a_forked_log_ends_a_stream_that_is_beyond_the_fork(store: FaultyStore) -> None:
    """P4: never a silent skip. A reader below the fork goes on."""
    async with running_edge(store, model=MODEL) as edge, sdk(edge.url) as client:
        asked = await client.responses.create(model=MODEL, input="a", background=True)
        writer = await writer_of(store)
        await writer.write("a", "b", "c")
        stream = await client.responses.retrieve(asked.id, stream=True)
        had = [await anext(aiter(stream)) for _ in range(7)]
        other = await fork(store, writer, 1, "X", "Y")
        *_, last = await events_of(stream)
        assert (last.type, last.code, last.sequence_number) == ("error", "history_lost", 7)
        strict_event(last)
        with pytest.raises(openai.APIStatusError, match="lost"):
            await client.responses.retrieve(
                asked.id, stream=True, starting_after=had[-1].sequence_number
            )
        await other.finish()
        below = await client.responses.retrieve(asked.id, stream=True, starting_after=4)
        assert text_of(await events_of(below)) == "XY"
        again = await events_of(await client.responses.retrieve(asked.id, stream=True))
        assert text_of(again) == "aXY"
        for number, event in enumerate(again):
            rest = await client.responses.retrieve(
                asked.id, stream=True, starting_after=event.sequence_number
            )
            assert await events_of(rest) == again[number + 1 :]
        with pytest.raises(openai.APIStatusError, match="lost"):  # still
            await client.responses.retrieve(
                asked.id, stream=True, starting_after=had[-1].sequence_number
            )


@pytest.mark.rule("P4.5")
async def test_a_forked_log_is_an_error_in_a_chat(store: FaultyStore) -> None:
    async with running_edge(store, model=MODEL) as edge, sdk(edge.url) as client:
        stream = await client.chat.completions.create(model=MODEL, messages=QUESTION, stream=True)
        writer = await writer_of(store)
        await writer.write("a", "b", "c")
        for _ in range(4):
            await anext(aiter(stream))
        await fork(store, writer, 1, "X")
        with pytest.raises(openai.APIError) as lost:
            await events_of(stream)
        assert lost.value.code == "history_lost"


# leaving, stopping, coming back


@pytest.mark.rule("O8")
async def test_a_caller_who_waits_for_the_whole_acknowledges_until_it_leaves(
    store: FaultyStore,
) -> None:
    """P7, P14: nobody cancelled anything, and the window closes."""
    async with running_edge(store, model=MODEL) as edge, sdk(edge.url) as client:
        asking = asyncio.create_task(client.chat.completions.create(model=MODEL, messages=QUESTION))
        writer = await writer_of(store)
        await writer.write("a", "b", reopen_tokens=2)
        await acked(store, writer, 2)
        asking.cancel()
        await until(lambda: not edge.edge.feeds._users)
        await writer.write("c", reopen_tokens=3)
        view = await store.view(writer.request_id)
        assert view is not None
        assert (view.acked_seq, view.status) == (2, Status.PAUSED)


@pytest.mark.rule("O8")
async def test_whoever_waits_for_the_whole_gets_it_at_the_end(store: FaultyStore) -> None:
    async with running_edge(store, model=MODEL) as edge, sdk(edge.url) as client:
        asking = asyncio.create_task(client.responses.create(model=MODEL, input="a"))
        writer = await writer_of(store)
        await writer.write("a", "b")
        await acked(store, writer, 2)
        await writer.write("c")
        await writer.finish()
        response = await asking
        strict(response)
        assert (response.output_text, response.status) == ("abc", "completed")


async def acked(store: FaultyStore, writer: Writer, seq: int) -> None:
    await until(lambda: store.state._records[writer.request_id].view.acked_seq == seq)


@pytest.mark.rule("O10")
async def test_a_reaped_answer_goes_on_for_a_client_that_has_all_there_is(
    store: FaultyStore,
) -> None:
    """P16: it cannot ask for that itself, whether it follows, waits or comes back."""
    async with running_edge(store, model=MODEL) as edge, sdk(edge.url) as client:
        stream = await client.responses.create(model=MODEL, input="a", stream=True)
        writer = await writer_of(store)
        response_id = f"resp_{writer.request_id}"
        await writer.write("a")
        waiting = asyncio.create_task(client.responses.retrieve(response_id, stream=True))
        following = asyncio.create_task(events_of(stream))
        back = await waiting
        for text in ("b", "c"):
            await store.do(Reap(writer.request_id, idle_ms=0, retention_ms=60_000))
            await until(lambda: _status(store, writer) is Status.QUEUED)
            await writer.claim()
            await writer.write(text)
        await writer.finish()
        assert text_of(await following) == text_of(await events_of(back)) == "abc"


@pytest.mark.rule("O10")
async def test_a_reaped_answer_goes_on_for_a_caller_who_waits(store: FaultyStore) -> None:
    async with running_edge(store, model=MODEL) as edge, sdk(edge.url) as client:
        asking = asyncio.create_task(client.chat.completions.create(model=MODEL, messages=QUESTION))
        writer = await writer_of(store)
        await writer.write("a")
        await acked(store, writer, 1)
        await store.do(Reap(writer.request_id, idle_ms=0, retention_ms=60_000))
        await until(lambda: _status(store, writer) is Status.QUEUED)
        await writer.claim()
        await writer.write("b")
        await writer.finish()
        assert (await asking).choices[0].message.content == "ab"


def _status(store: FaultyStore, writer: Writer) -> Status:
    return store.state._records[writer.request_id].view.status


@pytest.mark.rule("P8.4")
async def test_a_background_response_needs_no_reader(store: FaultyStore) -> None:
    options = SyntheticOptions(rate_tokens_per_s=2000, length_tokens=200)
    async with (
        Generator(store, engine=options),
        running_edge(store, model=MODEL) as edge,
        sdk(edge.url) as client,
    ):
        asked = await client.responses.create(model=MODEL, input="a", background=True)
        assert (asked.status, asked.output) == ("queued", [])
        request_id = await the_request(store)
        await until(lambda: store.state._records[request_id].view.status is Status.DONE)
        response = await client.responses.retrieve(asked.id)
        assert (response.status, response.usage and response.usage.output_tokens) == (
            "completed",
            200,
        )


@pytest.mark.rule("O9", "P14.2")
async def test_cancel_frees_the_slot_and_a_lost_connection_does_not(store: FaultyStore) -> None:
    engine = CountingEngine(SyntheticOptions(rate_tokens_per_s=100, length_tokens=10_000))
    async with (
        Generator(store, engine=engine),
        running_edge(store, model=MODEL) as edge,
        sdk(edge.url) as client,
    ):
        stream = await client.responses.create(model=MODEL, input="a", background=True, stream=True)
        request_id = await the_request(store)
        await engine.until_tokens(request_id, 3)
        await stream.close()
        await engine.until_tokens(request_id, 10)
        assert engine.stats().running == 1
        assert not engine.cancelled.is_set()
        cancelled = await client.responses.cancel(f"resp_{request_id}")
        async with asyncio.timeout(WAIT_S):
            await engine.cancelled.wait()
        assert engine.stats().running == 0, "the step after the news is without it"
        assert cancelled.status == "cancelled"
        view = await store.view(request_id)
        assert view is not None
        last = await client.responses.retrieve(cancelled.id)
        assert last.usage is not None
        assert last.usage.output_tokens == view.generated_tokens < 10_000


async def test_what_ended_is_not_cancelled_any_more(store: FaultyStore) -> None:
    async with running_edge(store, model=MODEL) as edge, sdk(edge.url) as client:
        response_id = await answered(store, client)
        with pytest.raises(
            openai.BadRequestError, match="Cannot cancel a response that is completed"
        ):
            await client.responses.cancel(response_id)


async def test_a_deleted_response_is_forgotten_with_its_log(store: FaultyStore) -> None:
    async with running_edge(store, model=MODEL) as edge, sdk(edge.url) as client:
        asked = await client.responses.create(model=MODEL, input="a", background=True)
        writer = await writer_of(store)
        await writer.write("a")
        stream = await client.responses.retrieve(asked.id, stream=True)
        following = asyncio.create_task(events_of(stream))
        await client.responses.delete(asked.id)
        assert (await following)[-1].type == "error"
        assert await store.view(writer.request_id) is None
        assert await store.log(writer.request_id) == []
        with pytest.raises(openai.NotFoundError):
            await client.responses.delete(asked.id)


# ends


@pytest.mark.rule("O6")
async def test_a_response_that_reached_its_limit_is_incomplete(store: FaultyStore) -> None:
    options = SyntheticOptions(rate_tokens_per_s=2000, length_tokens=50)
    async with (
        Generator(store, engine=options),
        running_edge(store, model=MODEL) as edge,
        sdk(edge.url) as client,
    ):
        events = await events_of(
            await client.responses.create(model=MODEL, input="a", max_output_tokens=20, stream=True)
        )
        assert kinds(events) == [*WHOLE[:-1], "incomplete"]
        whole = events[-1].response
        strict_event(events[-1])
        assert whole.incomplete_details.reason == "max_output_tokens"
        assert (whole.output[0].status, whole.usage.output_tokens) == ("incomplete", 20)
        chat = await client.chat.completions.create(
            model=MODEL, messages=QUESTION, max_completion_tokens=20
        )
        assert chat.choices[0].finish_reason == "length"


@pytest.mark.rule("O6", "O11")
async def test_a_failed_answer_is_told_as_openai_tells_it(store: FaultyStore) -> None:
    async with running_edge(store, model=MODEL) as edge, sdk(edge.url) as client:
        stream = await client.responses.create(model=MODEL, input="a", stream=True)
        writer = await writer_of(store)
        await writer.write("a")
        await writer.finish(Status.FAILED, "the generator failed here")
        events = await events_of(stream)
        assert kinds(events) == [*WHOLE[:-1], "failed"]
        strict_event(events[-1])
        assert events[-1].response.error.message == "the generator failed here"
        assert events[-1].response.output[0].status == "incomplete"


@pytest.mark.rule("O11")
@pytest.mark.parametrize("stream", [True, False])
async def test_a_failed_chat_raises_and_is_not_asked_again(
    store: FaultyStore, stream: bool
) -> None:
    async with running_edge(store, model=MODEL) as edge, sdk(edge.url) as client:

        async def ask() -> None:
            answer: Any = await client.chat.completions.create(
                model=MODEL, messages=QUESTION, stream=stream
            )
            await events_of(answer)

        asking = asyncio.create_task(ask())
        writer = await writer_of(store)
        await writer.finish(Status.FAILED, "the generator failed here")
        with pytest.raises(openai.APIError, match="the generator failed here"):
            await asking
        assert len(store.state._records) == 1


@pytest.mark.rule("O11")
async def test_a_cancelled_chat_is_no_whole_answer(store: FaultyStore) -> None:
    """Cancelled in Lore's own way: OpenAI has none for a chat."""
    async with running_edge(store, model=MODEL) as edge, sdk(edge.url) as client:
        stream = await client.chat.completions.create(model=MODEL, messages=QUESTION, stream=True)
        writer = await writer_of(store)
        await writer.write("a")
        cancelled = await request(edge, "DELETE", f"/v1/streams/{writer.request_id}")
        assert cancelled.status == 204
        with pytest.raises(openai.APIError) as error:
            await events_of(stream)
        assert error.value.code == "cancelled"


# an edge that stops


@pytest.mark.rule("O13")
@pytest.mark.parametrize("whole", [False, True])
async def test_a_stopping_edge_lets_an_answer_end(
    store: FaultyStore, whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDK would take the end of the response for the end of the answer."""
    monkeypatch.setattr(streams, "BLOCKED_S", 0.0)
    async with running_edge(store, model=MODEL) as edge, sdk(edge.url, max_retries=0) as client:
        reading = asyncio.create_task(_read_chat(client, whole))
        writer = await writer_of(store)
        await writer.write("a")
        await acked(store, writer, 1)
        draining = asyncio.create_task(edge.edge.streams.drain(0.0))
        await writer.write("b")
        await writer.finish()
        assert await reading == "ab"
        with pytest.raises(openai.InternalServerError, match="shutting down"):
            await client.responses.create(model=MODEL, input="a", stream=True)
        draining.cancel()


@pytest.mark.rule("O13")
@pytest.mark.parametrize("whole", [False, True])
async def test_an_edge_that_has_to_go_cuts_what_has_not_ended(
    store: FaultyStore, whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "BLOCKED_S", 0.0)
    monkeypatch.setattr(streams, "CUT_EARLY_S", 0.0)
    async with (
        running_edge(store, model=MODEL, grace_s=0.05) as edge,
        sdk(edge.url, max_retries=0) as client,
    ):
        reading = asyncio.create_task(_read_chat(client, whole))
        writer = await writer_of(store)
        await writer.write("a")
        await acked(store, writer, 1)
        await edge.edge.streams.drain(0.0)
        with pytest.raises(openai.APIConnectionError):
            await reading
        view = await store.view(writer.request_id)
        assert view is not None
        assert view.status is Status.GENERATING


async def _read_chat(client: openai.AsyncOpenAI, whole: bool) -> str:
    client = client.with_options(timeout=WAIT_S)
    if whole:
        answer = await client.chat.completions.create(model=MODEL, messages=QUESTION)
        return answer.choices[0].message.content or ""
    stream = await client.chat.completions.create(model=MODEL, messages=QUESTION, stream=True)
    return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])


# what is kept


@pytest.mark.rule("O21")
async def test_what_is_not_stored_cannot_be_read_again(store: FaultyStore) -> None:
    async with running_edge(store, model=MODEL) as edge, sdk(edge.url) as client:
        stream = await client.responses.create(model=MODEL, input="a", stream=True, store=False)
        writer = await writer_of(store)
        response_id = f"resp_{writer.request_id}"
        await writer.finish()
        await events_of(stream)
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(response_id)
        with pytest.raises(openai.NotFoundError):
            await client.responses.input_items.list(response_id)


async def test_one_api_does_not_show_what_the_other_was_asked(store: FaultyStore) -> None:
    async with running_edge(store, model=MODEL) as edge, sdk(edge.url) as client:
        response_id = await answered(store, client)
        with pytest.raises(openai.NotFoundError):
            await client.chat.completions.retrieve(response_id.replace("resp_", "chatcmpl-"))
        native = await request(
            edge,
            "POST",
            "/v1/streams",
            {"content-type": "application/json"},
            b'{"question": "a", "note": {"api": "responses"}}',
        )
        assert native.status == 400
        assert (await native.json())["error"]["field"] == "note"


@pytest.mark.parametrize("kept", ["{", '{"question": "a", "note": {"api": "responses"}}'])
async def test_a_response_whose_request_cannot_be_read_is_lost(
    store: FaultyStore, kept: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It was damaged, or another version kept it: as with a log that has lost its text."""
    async with running_edge(store, model=MODEL) as edge, sdk(edge.url) as client:
        response_id = await answered(store, client)
        store.state._records[await the_request(store)].body = kept
        for call in (
            client.responses.retrieve(response_id),
            client.responses.retrieve(response_id, stream=True),
            client.responses.input_items.list(response_id),
            client.responses.delete(response_id),
        ):
            with pytest.raises(
                openai.APIStatusError, match="cannot be read by this version"
            ) as raised:
                await call
            assert (raised.value.status_code, raised.value.code) == (410, "history_lost")
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.rule("O19")
async def test_what_was_asked_comes_back_with_the_answer(store: FaultyStore) -> None:
    async with running_edge(store, model=MODEL) as edge, sdk(edge.url) as client:
        input_: Any = [
            {"role": "developer", "content": "Be kind."},
            {"role": "user", "content": [{"type": "input_text", "text": "Hello"}]},
            {"role": "assistant", "content": "Hi!"},
            {"role": "user", "content": "What is a list?"},
        ]
        asked = await client.responses.create(
            model=MODEL,
            input=input_,
            instructions="Be brief.",
            metadata={"of": "a test"},
            temperature=0.5,
            top_p=0.25,
            max_output_tokens=99,
            background=True,
        )
        kept = await client.responses.retrieve(asked.id)
        assert strict(asked) == strict(kept)
        assert (kept.instructions, kept.background) == ("Be brief.", True)
        assert kept.metadata == {"of": "a test"}
        assert (kept.temperature, kept.top_p, kept.max_output_tokens) == (0.5, 0.25, 99)
        listed = await client.responses.input_items.list(asked.id, order="asc", limit=3)
        items: list[Any] = [item async for item in listed]
        for item in items:
            strict(item)
        assert [(item.role, item.content[0].text) for item in items] == [
            ("system", "Be kind."),
            ("user", "Hello"),
            ("assistant", "Hi!"),
            ("user", "What is a list?"),
        ]
        latest = await client.responses.input_items.list(asked.id, limit=1)
        assert (latest.data, latest.has_more) == (items[-1:], True)


async def test_a_repeated_post_with_its_key_is_the_same_answer(store: FaultyStore) -> None:
    async with running_edge(store, model=MODEL) as edge, sdk(edge.url) as client:
        headers = {"Idempotency-Key": "one"}
        asked = await client.responses.create(
            model=MODEL, input="a", background=True, extra_headers=headers
        )
        again = await client.responses.create(
            model=MODEL, input="a", background=True, extra_headers=headers
        )
        assert again.id == asked.id
        assert len(store.state._records) == 1
        with pytest.raises(openai.UnprocessableEntityError):
            await client.responses.create(
                model=MODEL, input="b", background=True, extra_headers=headers
            )
