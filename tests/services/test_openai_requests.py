"""What OpenAI's addresses take, and what they refuse and how."""

import hashlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from lore.messages import Message
from lore.request import NEWER, AckKind, KeptRequest, StreamRequest
from lore.request_limits import RequestLimits
from lore_edge.admission.create import parse
from lore_edge.openai import chat_request, responses_request
from lore_edge.openai.errors import OpenAIError
from lore_edge.openai.messages import Turn
from lore_edge.openai.tools import ResponseCall
from lore_edge.wire.errors import ApiError
from tests.services.auth_harness import KeyRing
from tests.services.edge_harness import FaultyStore, RunningEdge, running_edge
from tests.services.openai_harness import MODEL, sdk

CHAT = "/v1/chat/completions"
RESPONSES = "/v1/responses"
NOBODY = "resp_" + "A" * 22
LIMITS = RequestLimits()
MESSAGES: list[Any] = [{"role": "user", "content": "a"}]


def chat(**more: Any) -> KeptRequest:
    return chat_request.parse({"model": MODEL, "messages": MESSAGES} | more, LIMITS).kept(LIMITS)


def response(**more: Any) -> KeptRequest:
    asked = responses_request.parse({"model": MODEL, "input": "a"} | more, LIMITS)
    now = [item.message() for item in asked.input if isinstance(item, Turn)]
    return asked.kept(LIMITS, [], now)


# what is taken


@pytest.mark.rule("O14")
def test_what_is_not_said_is_openais_default_and_not_lores() -> None:
    native = StreamRequest(question="a")
    for asked in (chat(), response()):
        assert (asked.temperature, asked.top_p, asked.top_k) == (1.0, 1.0, 0)
        assert (asked.repetition_penalty, asked.no_repeat_ngram_size) == (1.0, 0)
        assert (asked.max_tokens, asked.ack) == (LIMITS.max_tokens, AckKind.SOCKET)
        assert asked.temperature != native.temperature
    assert response(background=True).ack is AckKind.NONE


@pytest.mark.rule("O15")
def test_what_is_honoured_reaches_the_generator() -> None:
    asked = chat(
        messages=[
            {"role": "developer", "content": "Be brief."},
            {
                "role": "user",
                "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
            },
            {"role": "assistant", "content": "c"},
        ],
        stop="end",
        seed=-1,
        max_completion_tokens=5,
        temperature=0,
        top_p=0.5,
        presence_penalty=2,
        frequency_penalty=-0.5,
    )
    assert asked.messages == [
        Message(role="system", content="Be brief."),
        Message(role="user", content="ab"),
        Message(role="assistant", content="c"),
    ]
    assert (asked.stop, asked.seed, asked.max_tokens) == (["end"], 2**63 - 1, 5)
    assert (asked.temperature, asked.top_p) == (0, 0.5)
    assert (asked.presence_penalty, asked.frequency_penalty) == (2, -0.5)
    assert response(presence_penalty=0.1).presence_penalty == 0.1
    assert response(instructions="Be brief.").messages == [
        Message(role="system", content="Be brief."),
        Message(role="user", content="a"),
    ]


@pytest.mark.rule("O16")
def test_what_a_client_parsed_of_a_call_says_nothing_new() -> None:
    call = {"name": "f", "arguments": '{"a": 1}'}
    parsed = call | {"parsed_arguments": {"a": 1}}
    result = {"role": "tool", "tool_call_id": "c", "content": "b"}
    for one in (call, parsed):
        called = {"role": "assistant", "tool_calls": [{"id": "c", "index": 0, "function": one}]}
        kept = chat(messages=[*MESSAGES, called, result]).messages or []
        (got,) = kept[1].tool_calls or [None]
        assert got is not None
        assert (got.id, got.name, got.arguments) == ("c", "f", '{"a": 1}')
        item = {"type": "function_call", "call_id": "c"} | one
        asked = responses_request.parse({"model": MODEL, "input": [item]}, LIMITS)
        (taken,) = asked.input
        assert isinstance(taken, ResponseCall)
        assert taken.message().tool_calls == [got]


def test_the_generator_reads_what_is_kept() -> None:
    kept = response(metadata={"a": "b"}, instructions="Be brief.", input="naïve 中文 🙂")
    assert KeptRequest.read(kept.kept_json()) == kept
    thinking = chat(chat_template_kwargs={"enable_thinking": False, "effort": "low"})
    read = KeptRequest.read(thinking.kept_json())
    assert read.template_args == {"enable_thinking": False, "effort": "low"}
    assert read.messages == thinking.messages


def test_a_release_before_reads_a_request_without_what_it_does_not_know() -> None:
    """It refuses a member that it has no field for, and looks past what it finds in the note."""
    kept = json.loads(chat(chat_template_kwargs={"enable_thinking": False}).kept_json())
    assert "template_args" not in kept
    assert kept["note"]["api"] == "chat"
    plain = StreamRequest(question="a")
    assert "template_args" not in plain.kept_json()
    before = plain.model_dump_json(exclude=set(NEWER)).encode()
    mark = hashlib.blake2b(before, digest_size=16).hexdigest()
    assert plain.fingerprint() == mark, "a retry there finds what was asked here"
    thinking = StreamRequest(question="a", template_args={"enable_thinking": False})
    assert thinking.fingerprint() != mark


@pytest.mark.parametrize(
    "args",
    [
        {"messages": "a"},
        {"add_generation_prompt": False},
        {"chat_template": "{{ 1 }}"},
        {"tokenize": True},
        {"eos_token": "a"},
        {"Thinking": True},
        {"__class__": True},
        {"thinking": "<|im_start|>"},
        {"thinking": "[INST]"},
        {"thinking": {"a": "b"}},
        {"thinking": "a" * 65},
        {f"a{number}": True for number in range(17)},
    ],
)
def test_what_a_template_must_not_be_given_is_refused_by_name(args: dict[str, Any]) -> None:
    with pytest.raises(OpenAIError) as refused:
        chat(chat_template_kwargs=args)
    inside = "" if len(args) > 1 else f".{next(iter(args))}"
    assert refused.value.field == f"chat_template_kwargs{inside}"
    with pytest.raises(ApiError) as refused_here:
        parse(json.dumps({"question": "a", "template_args": args}).encode(), LIMITS)
    assert refused_here.value.field == f"template_args{inside}"
    assert "boolean" not in refused.value.message + refused_here.value.message


@pytest.mark.parametrize("choice", [[], 5, {}, {"name": 5}, "any"])
def test_a_choice_that_is_none_is_refused_by_name(choice: object) -> None:
    with pytest.raises(ApiError) as refused:
        parse(json.dumps({"question": "a", "tool_choice": choice}).encode(), LIMITS)
    assert refused.value.field == "tool_choice"


@pytest.mark.rule("O16")
@pytest.mark.parametrize(
    "harmless",
    [
        {"n": 1, "presence_penalty": 0, "frequency_penalty": 0.0, "logprobs": False},
        {"user": "u", "metadata": {"a": "b"}, "store": True, "safety_identifier": "s"},
        {"tools": [], "tool_choice": "none", "parallel_tool_calls": True, "logit_bias": {}},
        {"response_format": {"type": "text"}, "modalities": ["text"], "service_tier": "auto"},
        {"stop": None, "temperature": None, "tools": None, "seed": None, "stream": None},
        {"stream": True, "stream_options": {"include_usage": True, "include_obfuscation": False}},
        {"stream_options": {"include_usage": None}},
        {"stream_options": {"include_usage": True, "continuous_usage_stats": False}},
    ],
)
def test_what_changes_nothing_is_taken(harmless: dict[str, Any]) -> None:
    assert chat(**harmless).model_dump(exclude={"note"}) == chat().model_dump(exclude={"note"})


@pytest.mark.rule("O16")
def test_one_limit_may_be_given_by_both_its_names() -> None:
    assert chat(max_tokens=5, max_completion_tokens=5) == chat(max_tokens=5)


@pytest.mark.parametrize("ask", [chat, response])
def test_a_top_p_of_0_leaves_the_likeliest_token_alone(ask: Callable[..., KeptRequest]) -> None:
    asked = ask(top_p=0)
    assert (asked.top_p, asked.top_k) == (1.0, 1)


@pytest.mark.parametrize(
    "message",
    [
        {"content": None, "refusal": "b"},
        {"refusal": "b"},
        {"content": [{"type": "refusal", "refusal": "b"}]},
        {"content": "b", "refusal": ""},
        {"content": "b", "prefix": False, "index": 0, "images": []},
    ],
)
def test_what_another_server_answered_may_be_sent_here(message: dict[str, Any]) -> None:
    asked = chat(messages=[*MESSAGES, {"role": "assistant", **message}])
    assert asked.messages == [
        Message(role="user", content="a"),
        Message(role="assistant", content="b"),
    ]


@pytest.mark.rule("O18")
def test_an_answers_message_may_be_sent_back_as_it_is() -> None:
    answer = {
        "role": "assistant",
        "content": "b",
        "refusal": None,
        "annotations": [],
        "audio": None,
        "function_call": None,
        "tool_calls": None,
    }
    assert chat(messages=[*MESSAGES, answer]).messages == [
        Message(role="user", content="a"),
        Message(role="assistant", content="b"),
    ]
    item = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": "b", "annotations": [], "logprobs": []}],
    }
    asked = response(input=[{"role": "user", "content": "a"}, item])
    assert asked.messages == chat(messages=[*MESSAGES, answer]).messages


@pytest.mark.rule("O16")
@pytest.mark.parametrize(
    "harmless",
    [
        {"truncation": "disabled", "text": {"format": {"type": "text"}}, "include": []},
        {"reasoning": {"effort": None, "summary": None}, "previous_response_id": None},
        {"store": True, "stream": True, "stream_options": {"include_obfuscation": False}},
        {"stream_options": {"include_obfuscation": False}},
    ],
)
def test_what_changes_nothing_is_taken_in_a_response(harmless: dict[str, Any]) -> None:
    assert response(**harmless) == response()


# what is refused

BOTH = [
    ({"colour": "blue"}, "colour", "unknown_parameter"),
    ({"temperature": 2.1}, "temperature", "decimal_above_max_value"),
    ({"temperature": -0.1}, "temperature", "decimal_below_min_value"),
    ({"temperature": "hot"}, "temperature", "invalid_type"),
    ({"temperature": True}, "temperature", "invalid_type"),
    ({"top_p": 1.5}, "top_p", "decimal_above_max_value"),
    ({"model": 3}, "model", "invalid_type"),
    ({"stream": 1}, "stream", "invalid_type"),
    ({"stream": True, "stream_options": {"a": 1}}, "stream_options.a", "unknown_parameter"),
    ({"metadata": {"a": 1}}, "metadata.a", "invalid_type"),
    ({"tools": {}}, "tools", "invalid_type"),
    ({"tool_choice": "required"}, "tool_choice", "invalid_value"),
    ({"tool_choice": "any"}, "tool_choice", "unsupported_value"),
    ({"tool_choice": {"type": "allowed_tools"}}, "tool_choice", "unsupported_value"),
    ({"top_logprobs": True}, "top_logprobs", "invalid_type"),
    ({"service_tier": "flex"}, "service_tier", "unsupported_value"),
    ({"moderation": {"model": "a"}}, "moderation", "unsupported_parameter"),
    ({"user": "\ud800"}, "user", "invalid_value"),
]


@pytest.mark.rule("O17")
@pytest.mark.parametrize(
    ("wrong", "param", "code"),
    [
        *BOTH,
        ({"messages": None}, "messages", "missing_required_parameter"),
        ({"messages": []}, "messages", "empty_array"),
        ({"messages": "a"}, "messages", "invalid_type"),
        ({"messages": ["a"]}, "messages[0]", "invalid_type"),
        ({"messages": [{"role": "function", "content": "a"}]}, "messages[0].role", "invalid_value"),
        (
            {"messages": [{"role": "tool", "content": "a"}]},
            "messages[0].tool_call_id",
            "missing_required_parameter",
        ),
        ({"tools": [{"type": "function"}]}, "tools[0].function", "missing_required_parameter"),
        (
            {"tools": [{"type": "custom", "function": {"name": "a"}}]},
            "tools[0].type",
            "invalid_value",
        ),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "missing_required_parameter"),
        ({"messages": [{"role": "user", "content": ""}]}, "messages[0].content", "empty_string"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages[0].content",
            "unsupported_value",
        ),
        (
            {"messages": [{"role": "assistant", "content": "a", "tool_calls": [{}]}]},
            "messages[0].tool_calls[0].id",
            "missing_required_parameter",
        ),
        ({"n": 2}, "n", "unsupported_value"),
        ({"presence_penalty": 2.1}, "presence_penalty", "decimal_above_max_value"),
        ({"frequency_penalty": -3}, "frequency_penalty", "decimal_below_min_value"),
        ({"logprobs": 1}, "logprobs", "invalid_type"),
        (
            {"response_format": {"type": "json_schema"}},
            "response_format.json_schema",
            "missing_required_parameter",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}},
            "response_format.json_schema.name",
            "missing_required_parameter",
        ),
        (
            {"response_format": {"type": "json_object", "more": 1}},
            "response_format.more",
            "unknown_parameter",
        ),
        ({"response_format": {"type": "xml"}}, "response_format", "invalid_value"),
        ({"max_tokens": 0}, "max_tokens", "integer_below_min_value"),
        ({"max_tokens": LIMITS.max_tokens + 1}, "max_tokens", "integer_above_max_value"),
        ({"max_tokens": 1.5}, "max_tokens", "invalid_type"),
        (
            {"max_tokens": 1, "max_completion_tokens": 2},
            "max_tokens",
            "invalid_parameter_combination",
        ),
        ({"stop": ["a"] * 5}, "stop", "array_above_max_length"),
        ({"stop": ""}, "stop[0]", "empty_string"),
        ({"seed": 2**63}, "seed", "integer_above_max_value"),
    ],
)
def test_a_wrong_chat_is_refused_by_name(wrong: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(OpenAIError) as refused:
        chat(**wrong)
    assert (refused.value.status, refused.value.field, refused.value.code) == (400, param, code)
    assert param in refused.value.message


@pytest.mark.rule("O17")
@pytest.mark.parametrize(
    ("wrong", "param", "code"),
    [
        *BOTH,
        ({"input": None}, "input", "missing_required_parameter"),
        ({"input": ""}, "input[0].content", "empty_string"),
        ({"input": [{"type": "item_reference"}]}, "input[0].id", "missing_required_parameter"),
        ({"input": [{"type": "computer_call", "id": "a"}]}, "input[0]", "unsupported_value"),
        ({"input": [{"type": "reasoning", "id": "a"}]}, "input", "empty_array"),
        (
            {"input": [{"type": "function_call_output", "output": "a"}]},
            "input[0].call_id",
            "missing_required_parameter",
        ),
        ({"tools": [{"type": "function"}]}, "tools[0].name", "missing_required_parameter"),
        ({"tools": [{"type": "web_search", "name": "a"}]}, "tools[0].type", "invalid_value"),
        ({"truncation": "auto"}, "truncation", "unsupported_value"),
        ({"text": {"verbosity": "high"}}, "text.verbosity", "invalid_value"),
        (
            {"text": {"format": {"type": "json_schema", "schema": {}}}},
            "text.format.name",
            "missing_required_parameter",
        ),
        ({"reasoning": {"effort": "a lot"}}, "reasoning.effort", "invalid_value"),
        ({"background": True, "store": False}, "store", "invalid_value"),
        ({"seed": 7}, "seed", "unknown_parameter"),
        ({"max_output_tokens": 0}, "max_output_tokens", "integer_below_min_value"),
    ],
)
def test_a_wrong_response_is_refused_by_name(wrong: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(OpenAIError) as refused:
        response(**wrong)
    assert (refused.value.status, refused.value.field, refused.value.code) == (400, param, code)


# errors that nobody's handler made


@pytest.fixture
async def edge() -> AsyncIterator[RunningEdge]:
    async with running_edge(FaultyStore(), model=MODEL, max_body_bytes=1024) as edge:
        yield edge


JSON = {"content-type": "application/json"}


@pytest.mark.rule("O3")
@pytest.mark.parametrize(
    ("call", "status", "code"),
    [
        (("GET", "/v1/models/gpt-4"), 404, "model_not_found"),
        (("GET", "/v1/responses/resp_short"), 404, "not_found"),
        (("GET", f"/v1/responses/{NOBODY}/more"), 404, "unknown_url"),
        (("GET", "/v1/chat"), 404, "unknown_url"),
        (("GET", CHAT), 405, "method_not_allowed"),
        (("PUT", f"/v1/responses/{NOBODY}"), 405, "method_not_allowed"),
        (("POST", CHAT, {}, "{}"), 415, "not_json"),
        (("POST", CHAT, JSON, "{"), 400, "invalid_json"),
        (("POST", CHAT, JSON, "[]"), 400, "invalid_request"),
        (("POST", RESPONSES, JSON, "{}"), 400, "missing_required_parameter"),
        (("POST", RESPONSES, JSON, json.dumps({"a": "b" * 2000})), 413, "body_too_large"),
    ],
)
async def test_every_error_here_has_openais_form(
    edge: RunningEdge, call: tuple[Any, ...], status: int, code: str
) -> None:
    method, path, *sent = call
    headers, content = sent or ({}, "")
    async with edge.client() as client:
        answer = await client.request(method, path, headers=headers, content=content)
    assert answer.status_code == status
    assert_openais(answer, code, "invalid_request_error")
    if status == 405:
        assert answer.headers["allow"]


def assert_openais(answer: httpx.Response, code: str, kind: str) -> None:
    error = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert (error["code"], error["type"]) == (code, kind)
    assert error["message"]


async def test_other_addresses_keep_lores_form(edge: RunningEdge) -> None:
    async with edge.client() as client:
        for path in ("/v1/streams/x", "/v1/modelsx", "/v1/responsesx/a"):
            error = (await client.get(path)).json()["error"]
            assert error.keys() == {"code", "message"}


@pytest.mark.parametrize(
    "query",
    [
        "stream=maybe",
        "starting_after=-1&stream=true",
        "starting_after=1",
        "stream=true&include_obfuscation=true",
        "colour=blue",
    ],
)
async def test_a_wrong_query_is_refused_by_name(query: str) -> None:
    async with running_edge(FaultyStore(), model=MODEL) as edge, sdk(edge.url) as client:
        asked = await client.responses.create(model=MODEL, input="a", background=True)
        with pytest.raises(openai.BadRequestError) as refused:
            await client.get(f"/responses/{asked.id}?{query}", cast_to=object)
        assert refused.value.param
        assert refused.value.param in query


async def test_a_store_that_is_away_is_a_server_error_to_come_back_from() -> None:
    store = FaultyStore()
    async with running_edge(store, model=MODEL) as edge, edge.client() as client:
        store.away = True
        for answer in (
            await client.get(f"/v1/responses/{NOBODY}"),
            await client.post(CHAT, json={"model": MODEL, "messages": MESSAGES}),
        ):
            assert answer.status_code == 503
            assert_openais(answer, "store_unavailable", "server_error")
            assert int(answer.headers["retry-after"]) > 0
        store.away = False


async def test_a_full_queue_is_the_sdks_rate_limit_error() -> None:
    """P17"""
    async with (
        running_edge(FaultyStore(), model=MODEL, queue_limit=1) as edge,
        sdk(edge.url, max_retries=0) as client,
    ):

        async def ask_on() -> None:
            # Not all at once: the SDK waits 5 s for a connection.
            for _ in range(200):
                await client.responses.create(model=MODEL, input="a", background=True)

        with pytest.raises(openai.RateLimitError) as full:
            await ask_on()
        assert (full.value.code, full.value.type) == ("rate_limit_exceeded", "requests")
        assert int(full.value.response.headers["retry-after"]) > 0


@pytest.mark.rule("O14")
async def test_an_answer_without_a_limit_counts_little_until_it_has_ended() -> None:
    """P17: else a limit on tokens would refuse every client that leaves the length open."""
    async with (
        running_edge(FaultyStore(), model=MODEL, tokens_per_minute=1000) as edge,
        sdk(edge.url, max_retries=0) as client,
    ):
        with pytest.raises(openai.BadRequestError) as refused:
            await client.responses.create(model=MODEL, input="a", max_output_tokens=2000)
        assert refused.value.param == "max_output_tokens"
        assert refused.value.message.count("max_output_tokens") == 1
        await client.responses.create(model=MODEL, input="a", background=True)
        with pytest.raises(openai.RateLimitError) as limited:
            await client.responses.create(model=MODEL, input="a", background=True)
        assert (limited.value.code, limited.value.type) == ("rate_limit_exceeded", "tokens")


async def test_only_whose_it_is_gets_it(tmp_path: Path) -> None:
    """Somebody else's response is as good as none, and nobody gets in without a key."""
    ring = KeyRing(tmp_path / "keys")
    mine, theirs = ring.new("me"), ring.new("them")
    async with (
        running_edge(FaultyStore(), model=MODEL, **ring.settings) as edge,
        sdk(edge.url, api_key=mine) as me,
        sdk(edge.url, api_key=theirs) as them,
        sdk(edge.url, api_key="wrong") as stranger,
    ):
        asked = await me.responses.create(model=MODEL, input="a", background=True)
        assert await me.responses.retrieve(asked.id) == asked
        calls = [
            lambda client: client.responses.retrieve(asked.id),
            lambda client: client.responses.retrieve(asked.id, stream=True),
            lambda client: client.responses.input_items.list(asked.id),
            lambda client: client.responses.cancel(asked.id),
            lambda client: client.responses.delete(asked.id),
        ]
        for call in calls:
            with pytest.raises(openai.NotFoundError) as unknown:
                await call(them)
            assert asked.id in unknown.value.message
            with pytest.raises(openai.AuthenticationError) as refused:
                await call(stranger)
            assert refused.value.code == "invalid_api_key"
        assert (await me.responses.retrieve(asked.id)).status == "queued"
        with pytest.raises(openai.AuthenticationError):
            await stranger.models.list()
