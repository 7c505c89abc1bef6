"""How much an edge takes is set, and told; a generator accepts whatever an edge accepted."""

from typing import Any

import pytest

from lore.protocol.lifecycle import Status
from tests.services.edge_harness import FaultyStore, running_edge, until
from tests.services.generator_harness import Generator, SyntheticOptions
from tests.services.openai_harness import MODEL

LARGE: dict[str, Any] = {
    "max_messages": 300,
    "max_message_chars": 200_000,
    "max_tokens": 40_000,
    "default_max_tokens": 7,
}
SMALL: dict[str, Any] = {
    "max_messages": 2,
    "max_message_chars": 4,
    "max_tokens": 9,
    "default_max_tokens": 7,
}
NATIVE, CHAT, RESPONSES = "/v1/streams", "/v1/chat/completions", "/v1/responses"


def said(count: int, chars: int = 1) -> list[dict[str, str]]:
    return [{"role": "user", "content": "a" * chars}] * count


TOO_MUCH = [
    (NATIVE, {"question": "abcde"}, "question", "invalid_request"),
    (NATIVE, {"messages": said(3)}, "messages", "invalid_request"),
    (NATIVE, {"messages": said(1, 5)}, "messages.0.content", "invalid_request"),
    (NATIVE, {"question": "a", "max_tokens": 10}, "max_tokens", "invalid_request"),
    (CHAT, {"messages": said(3)}, "messages", "context_length_exceeded"),
    (CHAT, {"messages": said(1, 5)}, "messages[0].content", "context_length_exceeded"),
    (CHAT, {"messages": said(1), "max_tokens": 10}, "max_tokens", "integer_above_max_value"),
    (RESPONSES, {"input": said(3)}, "input", "context_length_exceeded"),
    (RESPONSES, {"input": "abcde"}, "input[0].content", "context_length_exceeded"),
    (
        RESPONSES,
        {"input": "a", "max_output_tokens": 10},
        "max_output_tokens",
        "integer_above_max_value",
    ),
]


def body(path: str, asked: dict[str, Any]) -> dict[str, Any]:
    more: dict[str, Any] = {"model": MODEL} if path != NATIVE else {}
    return asked | more | ({"background": True} if path == RESPONSES else {})


@pytest.mark.rule("H10")
@pytest.mark.parametrize(("path", "asked", "field", "code"), TOO_MUCH)
async def test_what_is_too_much_is_refused_by_name(
    path: str, asked: dict[str, Any], field: str, code: str
) -> None:
    async with running_edge(FaultyStore(), model=MODEL, **SMALL) as edge, edge.client() as client:
        answer = await client.post(path, json=body(path, asked))
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (400, code)
        assert error.get("field", error.get("param")) == field


@pytest.mark.rule("P17.18")
@pytest.mark.parametrize(("path", "field"), [(CHAT, "messages"), (RESPONSES, "input")])
async def test_all_of_a_prompt_together_is_too_long_in_openais_word(path: str, field: str) -> None:
    settings: dict[str, Any] = {"model": MODEL, "max_prompt_chars": 5}
    async with running_edge(FaultyStore(), **settings) as edge, edge.client() as client:
        answer = await client.post(path, json=body(path, {field: said(2, 3)}))
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "context_length_exceeded")
    assert "reduce the length of the messages" in error["message"]


async def test_the_description_tells_what_is_set() -> None:
    async with running_edge(FaultyStore(), model=MODEL, **SMALL) as edge, edge.client() as client:
        schemas = (await client.get("/openapi.json")).json()["components"]["schemas"]
    assert "RequestLimits" not in str(schemas)
    native = schemas["StreamRequest"]["properties"]
    number, _ = native["max_tokens"]["anyOf"]
    assert (number["maximum"], native["max_tokens"]["default"]) == (9, 7)
    assert schemas["Message"]["properties"]["content"]["maxLength"] == 4
    assert schemas["ChatRequest"]["properties"]["messages"]["maxItems"] == 2


@pytest.mark.rule("H10")
@pytest.mark.parametrize(
    ("path", "asked"),
    [
        (NATIVE, {"messages": said(300), "ack": "none"}),
        (NATIVE, {"question": "a" * 200_000, "ack": "none"}),
        (NATIVE, {"question": "a", "max_tokens": 40_000, "ack": "none"}),
        (RESPONSES, {"input": said(300)}),
        (RESPONSES, {"input": said(1, 200_000), "instructions": "b" * 200_000}),
        (RESPONSES, {"input": "a", "max_output_tokens": 40_000}),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_a_generator_accepts_what_an_edge_accepted(path: str, asked: dict[str, Any]) -> None:
    store = FaultyStore()
    options = SyntheticOptions(rate_tokens_per_s=2000, length_tokens=5)
    async with (
        Generator(store, engine=options),
        running_edge(store, model=MODEL, **LARGE) as edge,
        edge.client() as client,
    ):
        answer = await client.post(path, json=body(path, asked))
        assert answer.status_code in (200, 201), answer.text
        (record,) = store.state._records.values()
        await until(lambda: record.view.status is Status.DONE)


@pytest.mark.rule("H10")
async def test_an_answer_whose_length_nobody_named_is_as_long_as_is_set() -> None:
    store = FaultyStore()
    async with (
        Generator(store, engine=SyntheticOptions(rate_tokens_per_s=2000, length_tokens=50)),
        running_edge(store, model=MODEL, **LARGE) as edge,
        edge.client() as client,
    ):
        await client.post(NATIVE, json={"question": "a", "ack": "none"})
        (record,) = store.state._records.values()
        await until(lambda: record.view.status is Status.DONE)
        assert (record.view.generated_tokens, record.view.finish_reason) == (7, "length")
