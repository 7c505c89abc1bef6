"""Calls of tools and reasoning, by the official SDK, on two edges, with cuts wherever there may be
one. A test plays the generator, in the words of a model.
"""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pytest

from lore.request import KeptRequest
from tests.services.edge_harness import FaultyStore, Writer, fork, running_edge, until
from tests.services.openai_harness import MODEL, sdk, strict, strict_event

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL: Any = {
    "type": "function",
    "function": {"name": "weather", "description": "Of a city.", "parameters": SCHEMA},
}
FLAT: Any = {"type": "function", **TOOL["function"], "strict": False}
QUESTION: Any = [{"role": "user", "content": "How is the weather in Oslo and Rome?"}]
OSLO, ROME = '{"city": "Oslo"}', '{"city": "Rome"}'
ANSWER = (
    "<think>\nTwo cities.\n</think>\n\nI look.\n"
    f'<tool_call>\n{{"name": "weather", "arguments": {OSLO}}}\n</tool_call>\n'
    f'<tool_call>\n{{"name": "weather", "arguments": {ROME}}}\n</tool_call>'
)
CHUNKS = [ANSWER[at : at + 7] for at in range(0, len(ANSWER), 7)]


@pytest.fixture
async def store() -> FaultyStore:
    store = FaultyStore()
    await store.tell_model({"model": MODEL, "parts": "hermes+think"}, keep_ms=600_000)
    return store


async def writer_of(store: FaultyStore, number: int = 0) -> Writer:
    records = store.state._records
    await until(lambda: len(records) > number)
    writer = Writer(store, list(records)[number])
    await writer.claim()
    return writer


async def play(store: FaultyStore, *texts: str, number: int = 0) -> Writer:
    writer = await writer_of(store, number)
    await writer.write(*(texts or CHUNKS))
    await writer.finish()
    return writer


async def kept(store: FaultyStore, writer: Writer) -> KeptRequest:
    return KeptRequest.read(await store.body(writer.request_id) or "")


async def whole_chat(url: str, name: str) -> dict[str, Any]:
    async with httpx.AsyncClient() as http:
        return (await http.get(f"{url}/v1/chat/completions/{name}")).json()


def delta_of(chunks: list[Any]) -> dict[str, Any]:
    """The deltas of a chat, put together as clients do."""
    whole: dict[str, Any] = {"content": "", "reasoning_content": "", "calls": {}}
    for chunk in chunks:
        for choice in chunk.choices:
            delta = choice.delta.to_dict()
            whole["content"] += delta.get("content") or ""
            whole["reasoning_content"] += delta.get("reasoning_content") or ""
            for call in delta.get("tool_calls") or ():
                own = whole["calls"].setdefault(call["index"], {"arguments": ""})
                own["arguments"] += call["function"].get("arguments", "")
                if "id" in call:
                    own |= {"id": call["id"], "name": call["function"]["name"]}
    return whole


def reason_of(chunks: list[Any]) -> str | None:
    return chunks[-1].choices[0].finish_reason


@pytest.mark.rule("O22", "P19.1")
async def test_a_chat_streams_reasoning_text_and_calls(store: FaultyStore) -> None:
    async with running_edge(store) as edge, sdk(edge.url) as client:
        asked = await client.chat.completions.create(
            model=MODEL, messages=QUESTION, tools=[TOOL], stream=True
        )
        writer = await play(store)
        chunks = [chunk async for chunk in asked]
    for chunk in chunks:
        strict(chunk)
    said = delta_of(chunks)
    assert (said["reasoning_content"], said["content"]) == ("Two cities.", "I look.")
    calls = said["calls"].values()
    assert [(call["name"], call["arguments"]) for call in calls] == [
        ("weather", OSLO),
        ("weather", ROME),
    ]
    assert len({call["id"] for call in calls}) == 2
    assert reason_of(chunks) == "tool_calls"
    request = await kept(store, writer)
    assert (request.parts, [tool.name for tool in request.tools or ()]) == (
        "hermes+think",
        ["weather"],
    )


@pytest.mark.rule("O22")
async def test_a_whole_chat_has_what_its_stream_says(store: FaultyStore) -> None:
    async with running_edge(store) as edge, sdk(edge.url) as client:
        stream = await client.chat.completions.create(
            model=MODEL, messages=QUESTION, tools=[TOOL], stream=True
        )
        await play(store)
        chunks = [chunk async for chunk in stream]
        answer = await whole_chat(edge.url, chunks[0].id)
    message = answer["choices"][0]["message"]
    said = delta_of(chunks)
    assert answer["choices"][0]["finish_reason"] == "tool_calls"
    assert message["content"] == said["content"]
    assert message["reasoning_content"] == said["reasoning_content"]
    for call, own in zip(message["tool_calls"], said["calls"].values(), strict=True):
        assert call["function"] == {"name": own["name"], "arguments": own["arguments"]}
        assert call["id"] == own["id"]


@pytest.mark.rule("P19.2", "O22")
@pytest.mark.parametrize("text", [ANSWER, ANSWER[:-30], "I look.\n<tool_ca"])
async def test_a_chat_goes_on_within_a_call_on_another_edge(store: FaultyStore, text: str) -> None:
    """After each event that a reader may have been cut at, until the one that says it was all."""
    async with running_edge(store) as first, running_edge(store) as second:
        async with sdk(first.url) as client:
            stream = await client.chat.completions.create(
                model=MODEL, messages=QUESTION, tools=[TOOL], stream=True
            )
            writer = await play(store, *(text[at : at + 7] for at in range(0, len(text), 7)))
            whole = [chunk.to_dict() async for chunk in stream]
        url = f"{second.url}/v1/chat/completions/chatcmpl-{writer.request_id}?stream=true"
        async with httpx.AsyncClient() as http:
            all_events = _events((await http.get(url)).text)
            assert [data for _, data in all_events] == [*whole, "[DONE]"]
            last_id = ""
            for number, (event_id, data) in enumerate(all_events):
                if data["choices"][0]["finish_reason"] is not None:
                    break
                last_id = event_id or last_id
                rest = await http.get(url, headers={"Last-Event-ID": last_id})
                assert _events(rest.text) == all_events[number + 1 :], data


def _events(text: str) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for block in filter(None, text.split("\n\n")):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if "data" in lines:
            data = lines["data"]
            parsed = data if data == "[DONE]" else json.loads(data)
            found.append((lines.get("id", ""), parsed))
    return found


async def responses_events(client: openai.AsyncOpenAI, store: FaultyStore, *texts: str) -> Any:
    stream = await client.responses.create(
        model=MODEL, input="How is it?", tools=[FLAT], stream=True
    )
    await play(store, *texts)
    return [event async for event in stream]


@pytest.mark.rule("O23", "P19.1")
async def test_a_response_streams_items_of_each_kind(store: FaultyStore) -> None:
    async with running_edge(store) as edge, sdk(edge.url) as client:
        events = await responses_events(client, store)
    raw = [strict_event(event) for event in events]
    assert [one["sequence_number"] for one in raw] == list(range(len(raw)))
    final = events[-1].response
    assert [item.type for item in final.output] == [
        *("reasoning", "message", "function_call", "function_call"),
    ]
    assert final.output_text == "I look."
    assert [item.arguments for item in final.output[2:]] == [OSLO, ROME]
    joined = {
        (one["output_index"], kind): ""
        for one in raw
        if (kind := one["type"].removesuffix(".delta")) != one["type"]
    }
    for one in raw:
        if one["type"].endswith(".delta"):
            joined[one["output_index"], one["type"].removesuffix(".delta")] += one["delta"]
    assert list(joined.values()) == ["Two cities.", "I look.", OSLO, ROME]
    done = [one["item"] for one in raw if one["type"] == "response.output_item.done"]
    assert done == [item.to_dict() for item in final.output]
    assert final.tools[0].name == "weather"


@pytest.mark.rule("P19.2", "O23")
async def test_a_response_goes_on_after_each_event_on_another_edge(store: FaultyStore) -> None:
    async with running_edge(store) as first, running_edge(store) as second:
        async with sdk(first.url) as client:
            events = [event.to_dict() for event in await responses_events(client, store)]
        async with sdk(second.url) as client:
            name = events[0]["response"]["id"]
            for number in range(len(events)):
                rest = await client.responses.retrieve(name, stream=True, starting_after=number)
                assert [event.to_dict() async for event in rest] == events[number + 1 :]
            whole = await client.responses.retrieve(name)
            rest = await client.responses.retrieve(name, stream=True, starting_after=len(events))
            (lost,) = [strict_event(event) async for event in rest]
    assert strict(whole) == events[-1]["response"]
    assert (lost["type"], lost["code"]) == ("error", "history_lost")


@pytest.mark.rule("O7", "P4.4", "P4.5")
async def test_a_response_goes_on_in_a_forked_log_and_never_from_one_that_it_left(
    store: FaultyStore,
) -> None:
    """As after each takeover from a generator that was killed (P4.8): another one goes on, and
    readers of its log come back."""
    async with running_edge(store) as edge, sdk(edge.url) as client:
        asked = await client.responses.create(model=MODEL, input="a", tools=[FLAT], background=True)
        writer = await writer_of(store)
        await writer.write(*CHUNKS[:16])
        stream = aiter(await client.responses.retrieve(asked.id, stream=True))
        had = [await anext(stream)]
        while had[-1].type != "response.function_call_arguments.delta":
            had.append(await anext(stream))
        keep = 8
        other = await fork(store, writer, keep, *CHUNKS[keep:])
        with pytest.raises(openai.APIStatusError, match="lost"):
            await retrieved(client, asked.id, had[-1].sequence_number)
        await other.finish()
        events = await retrieved(client, asked.id)
        numbers = [event.sequence_number for event in events]
        assert numbers == sorted(set(numbers))
        for number, event in enumerate(events):
            rest = await retrieved(client, asked.id, event.sequence_number)
            assert rest == events[number + 1 :]
        same = sum(one == other for one, other in zip(had, events, strict=False))
        for event in had[:same]:
            rest = await retrieved(client, asked.id, event.sequence_number)
            assert rest[0].sequence_number > event.sequence_number
        for event in had[same:]:
            with pytest.raises(openai.APIStatusError, match="lost"):
                await retrieved(client, asked.id, event.sequence_number)
        assert same < len(had)


async def retrieved(client: openai.AsyncOpenAI, name: str, after: int | None = None) -> list[Any]:
    place: Any = {} if after is None else {"starting_after": after}
    stream = await client.responses.retrieve(name, stream=True, **place)
    return [event async for event in stream]


@pytest.mark.rule("O24")
async def test_results_go_back_to_the_model_by_each_way(store: FaultyStore) -> None:
    """The SDK's own loop: items sent back, ``previous_response_id``, or references."""
    async with running_edge(store) as edge, sdk(edge.url) as client:
        events = await responses_events(client, store)
        first = events[-1].response
        calls = [item for item in first.output if item.type == "function_call"]
        results: Any = [
            {"type": "function_call_output", "call_id": call.call_id, "output": f"{n} degrees"}
            for n, call in enumerate(calls)
        ]
        question: Any = [{"role": "user", "content": "How is it?"}]
        own: Any = [item.to_dict() for item in first.output]
        references: Any = [{"type": "item_reference", "id": item.id} for item in first.output]
        ways: list[dict[str, Any]] = [
            {"input": [*question, *own, *results]},
            {"input": results, "previous_response_id": first.id},
            {"input": [*question, *references, *results]},
        ]
        asked: list[Any] = []
        kinds: list[str] = []
        for number, way in enumerate(ways, 1):
            again = await client.responses.create(model=MODEL, tools=[FLAT], background=True, **way)
            writer = await play(store, "Cold.", number=number)
            asked.append((await kept(store, writer)).messages)
            strict(await client.responses.retrieve(again.id))
            listed = await client.responses.input_items.list(again.id, order="asc")
            if number == 1:
                kinds = [item.type for item in listed.data]
    assert asked[0] == asked[1] == asked[2]
    _, answer, *outputs = asked[0]
    assert answer.content == "I look."
    assert [call.arguments for call in answer.tool_calls] == [OSLO, ROME]
    assert [(one.role, one.content) for one in outputs] == [
        ("tool", "0 degrees"),
        ("tool", "1 degrees"),
    ]
    assert kinds == ["message", "message", *["function_call"] * 2, *["function_call_output"] * 2]


@pytest.mark.rule("O24")
async def test_a_chat_takes_its_own_calls_back_with_their_results(store: FaultyStore) -> None:
    async with running_edge(store) as edge, sdk(edge.url) as client:
        stream = await client.chat.completions.create(
            model=MODEL, messages=QUESTION, tools=[TOOL], stream=True
        )
        await play(store)
        chunks = [chunk async for chunk in stream]
        name = chunks[0].id
        answer = await whole_chat(edge.url, name)
        message = answer["choices"][0]["message"]
        results: Any = [
            {"role": "tool", "tool_call_id": call["id"], "content": "Rain."}
            for call in message["tool_calls"]
        ]
        again = await client.chat.completions.create(
            model=MODEL, messages=[*QUESTION, message, *results], tools=[TOOL], stream=True
        )
        writer = await play(store, "It rains.", number=1)
        chunks = [chunk async for chunk in again]
    assert (delta_of(chunks)["content"], reason_of(chunks)) == ("It rains.", "stop")
    messages = (await kept(store, writer)).messages or []
    assert [one.role for one in messages] == ["user", "assistant", "tool", "tool"]
    assert messages[1].tool_calls is not None
    assert messages[1].tool_calls[0].id == messages[2].tool_call_id


@pytest.mark.rule("P19.3", "O22", "O23")
async def test_a_call_that_is_cut_is_not_complete(store: FaultyStore) -> None:
    cut = ANSWER[: ANSWER.index("Rome")]
    async with running_edge(store) as edge, sdk(edge.url) as client:
        stream = await client.chat.completions.create(
            model=MODEL, messages=QUESTION, tools=[TOOL], stream=True
        )
        writer = await writer_of(store)
        await writer.write(cut)
        await writer.finish()
        chunks = [chunk async for chunk in stream]
        assert reason_of(chunks) == "stop", "no results are waited for"
        assert delta_of(chunks)["calls"][1]["arguments"] == '{"city": "'
        events = await _second(client, store, cut)
    item = events[-1].response.output[-1]
    assert (item.type, item.status, item.arguments) == ("function_call", "incomplete", '{"city": "')


async def _second(client: openai.AsyncOpenAI, store: FaultyStore, text: str) -> list[Any]:
    stream = await client.responses.create(model=MODEL, input="a", tools=[FLAT], stream=True)
    await play(store, text, number=1)
    return [event async for event in stream]


async def test_an_answer_without_words_is_acknowledged(store: FaultyStore) -> None:
    """What says nothing to a client of this API counts as read: else the window stayed closed."""
    async with running_edge(store) as edge, sdk(edge.url) as client:
        stream = await client.chat.completions.create(
            model=MODEL, messages=QUESTION, tools=[TOOL], stream=True
        )
        writer = await writer_of(store)
        await writer.write("<tool_", 'call>{"', 'name"', ": ")
        record = store.state._records[writer.request_id]
        await until(lambda: record.view.acked_seq == 4)
        await writer.finish()
        chunks = [chunk async for chunk in stream]
    assert delta_of(chunks)["content"] == '<tool_call>{"name": '


@pytest.fixture
async def client(store: FaultyStore) -> AsyncIterator[openai.AsyncOpenAI]:
    async with running_edge(store) as edge, sdk(edge.url, max_retries=0) as client:
        yield client


@pytest.mark.rule("O17", "O24")
@pytest.mark.parametrize(
    ("more", "param"),
    [
        (
            {"tool_choice": {"type": "function", "function": {"name": "no"}}},
            "tool_choice.function.name",
        ),
        ({"tool_choice": {"type": "allowed_tools"}}, "tool_choice"),
        ({"tools": [TOOL, TOOL]}, "tools[1].function.name"),
        ({"tools": [{"type": "custom", "custom": {"name": "a"}}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
        (
            {"messages": [*QUESTION, {"role": "tool", "tool_call_id": "no", "content": "a"}]},
            "messages[1].tool_call_id",
        ),
        ({"messages": [{"role": "user", "content": "a", "tool_call_id": "b"}]}, "tool_call_id"),
    ],
)
async def test_what_is_wrong_is_refused_by_name_and_nothing_is_created(
    client: openai.AsyncOpenAI, store: FaultyStore, more: dict[str, Any], param: str
) -> None:
    given: dict[str, Any] = {"model": MODEL, "messages": QUESTION, "tools": [TOOL]} | more
    with pytest.raises(openai.BadRequestError) as refused:
        await client.chat.completions.create(**given)
    assert param in (refused.value.param or "")
    assert not store.state._records


@pytest.mark.rule("P19.9")
@pytest.mark.parametrize("choice", [None, "auto", "none", "required"])
async def test_a_strict_tool_is_accepted_whoever_decides(
    store: FaultyStore, choice: str | None
) -> None:
    """Agents set it by default. What is no JSON of the schema comes as the model wrote it."""
    tool: Any = FLAT | {"strict": True}
    call = '<tool_call>{"name": "weather", "arguments": {"town": 1}}</tool_call>'
    more: Any = {} if choice is None else {"tool_choice": choice}
    async with running_edge(store) as edge, sdk(edge.url) as client:
        asked = await client.responses.create(
            model=MODEL, input="a", tools=[tool], background=True, **more
        )
        writer = await play(store, call)
        told = ((await kept(store, writer)).tools or [])[0]
        assert told.strict
        (item,) = (await client.responses.retrieve(asked.id)).output
    if choice == "none":
        assert item.type == "message"
    else:
        assert item.type == "function_call"
        assert item.arguments == '{"town": 1}'


@pytest.mark.rule("P19.8")
async def test_a_model_that_calls_no_tools_is_given_none(store: FaultyStore) -> None:
    await store.tell_model({"model": MODEL, "parts": ""}, keep_ms=600_000)
    async with running_edge(store) as edge, sdk(edge.url, max_retries=0) as client:
        with pytest.raises(openai.BadRequestError) as refused:
            await client.chat.completions.create(model=MODEL, messages=QUESTION, tools=[TOOL])
    assert refused.value.param == "tools"
    async with running_edge(FaultyStore()) as edge, sdk(edge.url, max_retries=0) as client:
        with pytest.raises(openai.InternalServerError) as unknown:
            await client.chat.completions.create(model="default", messages=QUESTION, tools=[TOOL])
    assert (unknown.value.status_code, unknown.value.code) == (503, "no_model")


@pytest.mark.rule("P19.4")
async def test_tools_that_must_not_be_called_leave_text_alone(store: FaultyStore) -> None:
    text = '<tool_call>{"name": "weather"}</tool_call>'
    async with running_edge(store) as edge, sdk(edge.url) as client:
        stream = await client.chat.completions.create(
            model=MODEL, messages=QUESTION, tools=[TOOL], tool_choice="none", stream=True
        )
        await play(store, text)
        chunks = [chunk async for chunk in stream]
    assert delta_of(chunks) == {"content": text, "reasoning_content": "", "calls": {}}
    assert reason_of(chunks) == "stop"


@pytest.mark.rule("O22")
async def test_without_parallel_calls_the_first_one_ends_the_answer(store: FaultyStore) -> None:
    async with running_edge(store) as edge, sdk(edge.url) as client:
        stream = await client.chat.completions.create(
            model=MODEL, messages=QUESTION, tools=[TOOL], parallel_tool_calls=False, stream=True
        )
        await play(store)
        chunks = [chunk async for chunk in stream]
    assert [call["arguments"] for call in delta_of(chunks)["calls"].values()] == [OSLO]
    assert reason_of(chunks) == "tool_calls"


@pytest.mark.rule("O15")
async def test_a_form_of_the_answer_reaches_the_generator(store: FaultyStore) -> None:
    """By both APIs; null in a schema stays there."""
    schema: dict[str, Any] = {"type": "object", "properties": {"a": {"enum": [1, None]}}}
    named: Any = {"name": "form", "schema": schema, "strict": True}
    chat: Any = {"type": "json_schema", "json_schema": named}
    flat: Any = {"format": {"type": "json_schema", **named}}
    asked: list[Any] = []
    async with running_edge(store) as edge, sdk(edge.url) as client:
        await client.responses.create(model=MODEL, input="a", text=flat, background=True)
        asked.append((await kept(store, await play(store, "{}"))).response_format)
        stream = await client.chat.completions.create(
            model=MODEL, messages=QUESTION, response_format=chat, stream=True
        )
        writer = await play(store, "{}", number=1)
        assert delta_of([chunk async for chunk in stream])["content"] == "{}"
        asked.append((await kept(store, writer)).response_format)
    assert [one.model_dump(by_alias=True) for one in asked] == [
        {"type": "json_schema", **named}
    ] * 2
