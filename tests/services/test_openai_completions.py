"""Completions of a raw prompt by the official SDK: streamed, whole, and resumed on another edge."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, cast

import httpx
import openai
import pytest
from openai.types import Completion

from lore.protocol.lifecycle import Status
from lore.request import AckKind, KeptRequest
from lore.request_limits import RequestLimits
from lore_edge.openai import completion_request
from lore_generator.engines.synthetic_text import answer, ids_of, synthetic_answer
from tests.services.edge_harness import FaultyStore, running_edge
from tests.services.generator_harness import Generator, SyntheticOptions
from tests.services.openai_harness import MODEL, sdk
from tests.services.test_openai_logprobs import all_of, play

PATH = "/v1/completions"
LIMITS = RequestLimits()
ASKED: dict[str, Any] = {"model": MODEL, "prompt": "Once upon a time", "seed": 7, "max_tokens": 90}


def completion(**more: Any) -> KeptRequest:
    return completion_request.parse(ASKED | more, LIMITS).kept(LIMITS)


@pytest.fixture
async def urls() -> AsyncIterator[list[str]]:
    """Two edges."""
    store, options = FaultyStore(), SyntheticOptions(rate_tokens_per_s=2_000)
    async with (
        Generator(store, engine=options),
        running_edge(store, model=MODEL) as one,
        running_edge(store, model=MODEL, edge_id="edge-2") as two,
    ):
        yield [one.url, two.url]


# what is taken


@pytest.mark.rule("O26")
@pytest.mark.parametrize(
    ("given", "kept"),
    [("a", "a"), (["a"], "a"), ([1, 2], [1, 2]), ([[1, 2]], [1, 2])],
    ids=["text", "one text", "ids", "one list of ids"],
)
def test_a_prompt_reaches_the_generator_as_it_is(given: Any, kept: Any) -> None:
    asked = KeptRequest.read(completion(prompt=given).kept_json())
    assert (asked.prompt, asked.conversation()) == (kept, [])
    assert asked.ack is AckKind.SOCKET


@pytest.mark.rule("O14")
def test_what_is_not_said_of_a_completion_is_openais_default() -> None:
    asked = completion_request.parse({"model": MODEL, "prompt": "a"}, LIMITS).kept(LIMITS)
    assert (asked.max_tokens, asked.open_ended) == (16, False)
    assert (asked.temperature, asked.top_p, asked.top_k, asked.repetition_penalty) == (1, 1, 0, 1)
    short = RequestLimits(max_tokens=8)
    assert (
        completion_request.parse({"model": MODEL, "prompt": "a"}, short).kept(short).max_tokens == 8
    )


NEUTRAL: dict[str, Any] = {
    "n": 1,
    "best_of": 1,
    "echo": False,
    "logprobs": None,
    "suffix": None,
    "add_special_tokens": True,
    "logit_bias": {},
    "user": "somebody",
    "stream_options": {"include_usage": False},
}


@pytest.mark.rule("O16")
@pytest.mark.parametrize("name", NEUTRAL)
def test_what_changes_nothing_of_a_completion_is_taken(name: str) -> None:
    assert completion(**{name: NEUTRAL[name]}).fingerprint() == completion().fingerprint()


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "no prompt": ({"prompt": None}, "prompt", "missing_required_parameter"),
    "an empty text": ({"prompt": ""}, "prompt", "empty_string"),
    "no ids": ({"prompt": []}, "prompt", "empty_array"),
    "a list of no ids": ({"prompt": [[]]}, "prompt", "empty_array"),
    "two texts": ({"prompt": ["a", "b"]}, "prompt", "unsupported_value"),
    "two lists": ({"prompt": [[1], [2]]}, "prompt", "unsupported_value"),
    "a number": ({"prompt": 5}, "prompt", "invalid_type"),
    "an object": ({"prompt": {"a": 1}}, "prompt", "invalid_type"),
    "ids and a text": ({"prompt": [1, "a"]}, "prompt[1]", "invalid_type"),
    "a negative id": ({"prompt": [1, -1]}, "prompt[1]", "integer_below_min_value"),
    "an id that none is": ({"prompt": [2**31]}, "prompt[0]", "integer_above_max_value"),
    "true": ({"prompt": [True]}, "prompt[0]", "invalid_type"),
    "half a token": ({"prompt": [1.5]}, "prompt[0]", "invalid_type"),
    "too long": ({"prompt": "a" * 100_001}, "prompt", "context_length_exceeded"),
    "too many ids": ({"prompt": [1] * 100_001}, "prompt", "context_length_exceeded"),
    "no tokens": ({"max_tokens": 0}, "max_tokens", "integer_below_min_value"),
    "two answers": ({"n": 2}, "n", "unsupported_value"),
    "the best of two": ({"best_of": 2}, "best_of", "unsupported_value"),
    "echo": ({"echo": True}, "echo", "unsupported_value"),
    "a suffix": ({"suffix": "b"}, "suffix", "unsupported_parameter"),
    "a word for logprobs": ({"logprobs": True}, "logprobs", "invalid_type"),
    "six logprobs": ({"logprobs": 6}, "logprobs", "integer_above_max_value"),
    "ids by a word": ({"return_token_ids": "yes"}, "return_token_ids", "invalid_type"),
    "five stops": ({"stop": ["a"] * 5}, "stop", "array_above_max_length"),
    "messages": ({"messages": []}, "messages", "unknown_parameter"),
    "tools": ({"tools": []}, "tools", "unknown_parameter"),
}


@pytest.mark.rule("O17")
async def test_what_is_refused_of_a_completion_is_named_and_creates_nothing() -> None:
    store = FaultyStore()
    async with running_edge(store, model=MODEL) as edge, edge.client() as client:
        for about, (more, param, code) in REFUSED.items():
            refusal = await client.post(PATH, json=ASKED | more)
            error = refusal.json()["error"]
            assert (refusal.status_code, error["param"], error["code"]) == (400, param, code), about
    assert not store.state._records


# what comes back


@pytest.mark.rule("O26")
@pytest.mark.parametrize("prompt", ["Once upon a time", [3, 4, 5]], ids=["text", "ids"])
async def test_a_streamed_completion_is_the_same_as_a_whole_one(
    urls: list[str], prompt: Any
) -> None:
    asked = ASKED | {"prompt": prompt}
    async with sdk(urls[0]) as one, sdk(urls[1]) as two:
        whole = await two.completions.create(**asked)
        options: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
        stream: Any = await one.completions.create(**asked, **options)
        *chunks, finish, spent = [chunk async for chunk in stream]
    type(whole).model_validate(whole.to_dict(), strict=True)
    (choice,) = whole.choices
    kept = completion(prompt=prompt)
    assert choice.text == "".join(synthetic_answer(kept))
    assert "".join(chunk.choices[0].text for chunk in chunks) == choice.text
    assert {chunk.choices[0].finish_reason for chunk in chunks} == {None}
    assert finish.choices[0].finish_reason == choice.finish_reason
    assert (spent.choices, spent.usage) == ([], whole.usage)
    assert whole.usage is not None
    assert whole.usage.prompt_tokens == len(prompt if isinstance(prompt, list) else prompt.split())
    assert {chunk.id for chunk in (*chunks, finish, spent)} == {finish.id}
    assert {chunk.object for chunk in (*chunks, finish)} == {whole.object} == {"text_completion"}


def events_of(body: str) -> list[str]:
    blocks = body.strip("\n").split("\n\n")
    return [block for block in (one.strip(":\n") for one in blocks) if block]


@pytest.mark.rule("O26", "O5")
async def test_a_completion_is_read_on_at_another_edge(urls: list[str]) -> None:
    """By its id, after any chunk; and a native reader has the same chunks."""
    async with httpx.AsyncClient(timeout=30) as client:
        first = await client.post(urls[0] + PATH, json=ASKED | {"stream": True})
        request_id = first.headers["x-request-id"]
        events = events_of(first.text)
        for had in (1, 2, len(events) - 3):
            rest = await client.get(
                f"{urls[1]}{PATH}/cmpl-{request_id}",
                params={"stream": "true"},
                headers={"Last-Event-ID": str(had)},
            )
            assert events_of(rest.text) == events[had:]
        assert events[-1] == "data: [DONE]"
        chat = await client.get(f"{urls[1]}/v1/chat/completions/chatcmpl-{request_id}")
        assert chat.status_code == 404
        text = "".join(
            json.loads(event.partition("data: ")[2])["choices"][0]["text"] for event in events[:-1]
        )
        whole = (await client.get(f"{urls[1]}{PATH}/cmpl-{request_id}")).json()
        native = (await client.get(f"{urls[1]}/v1/streams/{request_id}")).json()
        assert whole["choices"][0]["text"] == native["text"] == text
        said = await client.get(f"{urls[1]}/v1/streams/{request_id}/messages")
        assert said.json() == {"messages": []}


@pytest.mark.rule("O26", "P17.21")
@pytest.mark.parametrize("stream", [False, True])
async def test_a_token_that_the_model_does_not_have_is_refused(
    urls: list[str], stream: bool
) -> None:
    async with sdk(urls[0]) as client:
        with pytest.raises(openai.BadRequestError) as refused:
            await client.completions.create(model=MODEL, prompt=[1, 10_000], stream=stream)
    assert (refused.value.code, refused.value.param) == ("invalid_prompt", "prompt")
    assert "10000" in str(refused.value)


@pytest.mark.rule("P17.19", "P17.20")
@pytest.mark.parametrize(
    ("prompt", "refused"),
    [([1] * 7, False), ([1] * 8, True), ("a b c", False), ("a " * 8, True)],
    ids=["ids that fit", "as many ids", "a text that fits", "as many words"],
)
async def test_a_prompt_that_is_too_long_is_refused(prompt: Any, refused: bool) -> None:
    store = FaultyStore()
    async with (
        Generator(store, engine=SyntheticOptions(context_tokens=8)),
        running_edge(store, model=MODEL) as edge,
        sdk(edge.url) as client,
    ):
        if not refused:
            assert await client.completions.create(model=MODEL, prompt=prompt)
            return
        with pytest.raises(openai.BadRequestError) as error:
            await client.completions.create(model=MODEL, prompt=prompt)
    assert (error.value.code, error.value.param) == ("context_length_exceeded", "prompt")
    assert {record.view.status for record in store.state._records.values()} <= {Status.FAILED}


@pytest.mark.rule("H8")
async def test_a_native_request_may_have_a_prompt(urls: list[str]) -> None:
    async with httpx.AsyncClient(timeout=30) as client:
        body = {"prompt": [3, 4], "seed": 1, "ack": "none"}
        made = (await client.post(f"{urls[0]}/v1/streams", json=body)).json()
        stream = await client.get(
            f"{urls[1]}{made['stream_url']}", headers={"Accept": "text/event-stream"}
        )
        view = (await client.get(f"{urls[1]}/v1/streams/{made['request_id']}")).json()
        for more in ({"question": "a"}, {"messages": [{"role": "user", "content": "a"}]}):
            refused = await client.post(f"{urls[0]}/v1/streams", json=body | more)
            assert (refused.status_code, refused.json()["error"]["field"]) == (400, "prompt")
    assert '"finish_reason": "stop"' in stream.text
    kept = KeptRequest(prompt=[3, 4], seed=1)
    assert (view["text"], view["prompt_tokens"]) == ("".join(synthetic_answer(kept)), 2)


# token ids and log probabilities


@pytest.mark.rule("O26", "H18")
@pytest.mark.parametrize("prompt", ["Once upon a time", [3, 4, 5]], ids=["text", "ids"])
async def test_token_ids_are_the_logs_streamed_whole_and_resumed(
    urls: list[str], prompt: Any
) -> None:
    asked = ASKED | {"prompt": prompt, "return_token_ids": True}
    kept = completion(prompt=prompt)
    async with httpx.AsyncClient(timeout=30) as client:
        streamed = await client.post(urls[0] + PATH, json=asked | {"stream": True})
        name = f"cmpl-{streamed.headers['x-request-id']}"
        rest = await client.get(
            f"{urls[1]}{PATH}/{name}", params={"stream": "true"}, headers={"Last-Event-ID": "2"}
        )
        whole = (await client.get(f"{urls[1]}{PATH}/{name}")).json()["choices"][0]
        native = f"{urls[1]}/v1/streams/{streamed.headers['x-request-id']}"
        poll = (await client.get(native, params={"after": 0, "wait": 1})).json()
        events = await client.get(native, headers={"Accept": "text/event-stream"})
    assert events_of(rest.text) == events_of(streamed.text)[2:]
    *chunks, finish = [
        json.loads(event.partition("data: ")[2])["choices"][0]
        for event in events_of(streamed.text)[:-1]
    ]
    assert whole["prompt_token_ids"] == list(ids_of(kept))
    assert whole["token_ids"] == list(answer(kept).token_ids)
    assert [one for chunk in chunks for one in chunk["token_ids"]] == whole["token_ids"]
    assert [one.get("prompt_token_ids") for one in chunks][:2] == [whole["prompt_token_ids"], None]
    assert "token_ids" not in finish
    assert poll["token_ids"] == whole["token_ids"]
    assert poll["prompt_token_ids"] == whole["prompt_token_ids"]
    told = [json.loads(one.partition("data: ")[2]) for one in events_of(events.text)]
    shown = [one for event in told for one in event.get("token_ids", ())]
    assert shown == whole["token_ids"]


async def test_what_did_not_ask_for_ids_has_none(urls: list[str]) -> None:
    async with httpx.AsyncClient(timeout=30) as client:
        streamed = await client.post(urls[0] + PATH, json=ASKED | {"stream": True})
    assert "token_ids" not in streamed.text


SMILE = "🙂".encode()
PLAYED = [
    ("Two", [b"Two"]),
    (" words ", [b" wor", b"ds", b" "]),
    ("", [SMILE[:2]]),
    ("🙂.", [SMILE[2:], b"."]),
    ("", [b"<|im_end|>"]),
]
OFFSETS = [0, 3, 7, 9, 10, 10, 11, 12]


@pytest.mark.rule("O26")
async def test_log_probabilities_of_a_completion_have_the_older_form() -> None:
    store = FaultyStore()
    async with (
        running_edge(store, model=MODEL) as edge,
        edge.client() as http,
        sdk(edge.url) as client,
    ):
        asking = asyncio.create_task(client.completions.create(**ASKED, logprobs=2, stream=True))
        writer = await play(store, PLAYED)
        found: list[Any] = [chunk async for chunk in cast("Any", await asking)]
        whole = await client.get(f"/completions/cmpl-{writer.request_id}", cast_to=Completion)
        again = await http.get(
            f"{PATH}/cmpl-{writer.request_id}",
            params={"stream": "true"},
            headers={"Last-Event-ID": "2"},
        )
    told = whole.choices[0].logprobs
    assert told is not None
    assert told.tokens == [
        "Two",
        " wor",
        "ds",
        " ",
        "bytes:\\xf0\\x9f",
        "bytes:\\x99\\x82",
        ".",
        "<|im_end|>",
    ]
    assert told.text_offset == OFFSETS
    assert told.top_logprobs is not None
    assert told.token_logprobs is not None
    expected = all_of(PLAYED)
    assert told.token_logprobs == [one.chosen.logprob for one in expected]
    assert told.top_logprobs[1] == {
        " wor": expected[1].chosen.logprob,
        "other": expected[1].top[1].logprob,
    }
    streamed = [chunk.choices[0].logprobs for chunk in found if chunk.choices[0].logprobs]
    for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
        joined = [one for some in streamed for one in getattr(some, name)]
        assert joined == getattr(told, name), name
    resumed = [json.loads(one.partition("data: ")[2]) for one in events_of(again.text)[:-1]]
    assert resumed[0]["choices"][0]["logprobs"]["text_offset"] == OFFSETS[4:5]
    assert resumed[1]["choices"][0]["logprobs"]["text_offset"] == OFFSETS[5:7]
