"""OpenAI's published schema, field by field: what changes nothing is taken.

The schema is the types of the ``openai`` package. For every field of a request's body, at any
depth, null is taken; and so is each value below, which is the field's default or says nothing.
A new field of the package is named by these tests until it has a line here or in the code.
"""

import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, NotRequired, Required, Union, get_args, get_origin

import pytest
from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming
from openai.types.responses.response_create_params import ResponseCreateParamsStreaming
from typing_extensions import get_original_bases, get_type_hints, is_typeddict

from lore.request import KeptRequest
from lore.request_limits import RequestLimits
from lore_edge.openai import chat_request, responses_request
from lore_edge.openai.chat_request import ChatRequest
from lore_edge.openai.errors import OpenAIError
from lore_edge.openai.messages import Turn
from lore_edge.openai.neutral import ChatNeutral, Neutral, ResponseNeutral
from lore_edge.openai.responses_request import ResponseRequest

LIMITS = RequestLimits()
CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "a"}]}
RESPONSE: dict[str, Any] = {"model": "m", "input": [{"role": "user", "content": "a"}]}


def chat(body: dict[str, Any]) -> KeptRequest:
    return chat_request.parse(body, LIMITS).kept(LIMITS)


def response(body: dict[str, Any]) -> KeptRequest:
    asked = responses_request.parse(body, LIMITS)
    now = [item.message() for item in asked.input if isinstance(item, Turn)]
    return asked.kept(LIMITS, [], now)


CALLS = {
    "chat": (chat, CHAT, "messages", CompletionCreateParamsStreaming, ChatRequest, ChatNeutral),
    "responses": (
        response,
        RESPONSE,
        "input",
        ResponseCreateParamsStreaming,
        ResponseRequest,
        ResponseNeutral,
    ),
}


# every field, at every depth, as the package's types have it


def fields(kind: Any) -> dict[str, Any]:
    """Of a TypedDict, those that it inherits as well."""
    found: dict[str, Any] = {}
    for base in get_original_bases(kind):
        if is_typeddict(base):
            found |= fields(base)
    return found | get_type_hints(kind)


def shapes(hint: Any) -> Iterator[Any]:
    """The TypedDicts in a type, as one value or in a list."""
    if is_typeddict(hint):
        yield hint
    elif get_origin(hint) in (Union, types.UnionType, Required, NotRequired, Annotated):
        for inner in get_args(hint):
            yield from shapes(inner)


def objects(hint: Any, path: tuple[str, ...], depth: int = 3) -> Iterator[tuple[str, ...]]:
    """The paths of all members of the objects that a field may be; lists are entered too."""
    if depth == 0:
        return
    for shape in shapes(hint):
        for name, inner in fields(shape).items():
            yield (*path, name)
            yield from objects(inner, (*path, name), depth - 1)


def every_path() -> Iterator[tuple[str, tuple[str, ...]]]:
    for call, (_, _, _, kind, *_) in CALLS.items():
        for name, hint in fields(kind).items():
            yield call, (name,)
            if name not in ("messages", "input"):
                for path in objects(hint, (name,)):
                    yield call, path


PATHS = sorted(set(every_path()))


@pytest.mark.rule("O16")
@pytest.mark.parametrize(("call", "path"), PATHS, ids=lambda value: ".".join(value))
def test_null_is_nothing_at_every_depth(call: str, path: tuple[str, ...]) -> None:
    parse, body, items, *_ = CALLS[call]
    if path[0] in ("model", items):
        return  # without these nothing is asked
    value: Any = None
    for name in reversed(path[1:]):
        value = {name: value}
    more: dict[str, Any] = {path[0]: value}
    if path[0] in ("prompt", "conversation", "moderation", "audio", "web_search_options"):
        more = {path[0]: None}  # an object says something by being there
    if path[0] in ("tool_choice", "function_call", "response_format", "prediction"):
        more = {path[0]: None}
    assert parse(body | more) == parse(body)


def messages_fields() -> Iterator[tuple[str, str, str]]:
    """Every field of every message that text may be in, and those of its parts."""
    from openai.types import chat as chat_types
    from openai.types import responses as response_types

    of_roles = {
        "system": chat_types.ChatCompletionSystemMessageParam,
        "developer": chat_types.ChatCompletionDeveloperMessageParam,
        "user": chat_types.ChatCompletionUserMessageParam,
        "assistant": chat_types.ChatCompletionAssistantMessageParam,
    }
    for role, kind in of_roles.items():
        for name in fields(kind).keys() | {"tool_call_id", "reasoning_content", "vendors_own"}:
            yield "chat", role, name
    for kind in (response_types.EasyInputMessageParam, response_types.ResponseOutputMessageParam):
        for name in fields(kind).keys() | {"vendors_own"}:
            yield "responses", "assistant", name


@pytest.mark.rule("O16")
@pytest.mark.parametrize(("call", "role", "name"), sorted(set(messages_fields())))
def test_null_is_nothing_in_a_message(call: str, role: str, name: str) -> None:
    parse, body, items, *_ = CALLS[call]
    message = {"role": role, "content": "b"}
    if name == "role" or (name == "content" and role != "assistant"):
        return  # without these nothing is said
    more = message | {name: None}
    expected = message | {"content": ""} if name == "content" else message
    got, want = (parse(body | {items: [*body[items], said]}) for said in (more, expected))
    assert got == want


# what changes nothing, though it is not null

CACHED = {"type": "ephemeral"}
BOTH: list[dict[str, Any]] = [
    {"top_k": 0},
    {"top_k": -1},
    {"min_p": 0},
    {"repetition_penalty": 1},
    {"frequency_penalty": 0},
    {"presence_penalty": 0.0},
    {"chat_template_kwargs": {}},
    {"temperature": 1},
    {"top_p": 1},
    {"tools": []},
    {"tool_choice": "auto"},
    {"tool_choice": "none"},
    {"parallel_tool_calls": True},
    {"parallel_tool_calls": False},
    {"service_tier": "auto"},
    {"service_tier": "default"},
    {"top_logprobs": 0},
    {"user": "u"},
    {"safety_identifier": "s"},
    {"prompt_cache_key": "k"},
    {"prompt_cache_retention": "in_memory"},
    {"prompt_cache_retention": "24h"},
    {"prompt_cache_options": {"mode": "implicit", "ttl": "30m", "prewarm": False}},
    {"metadata": {}},
    {"metadata": {"a": "b"}},
    {"store": True},
    {"stream": False},
    {"stream": True, "stream_options": {"include_obfuscation": False}},
    {"vendors_own": None},
    {"cache_control": CACHED},
    {"add_generation_prompt": True},
    {"add_special_tokens": False},
    {"bad_words": []},
    {"best_of": 1},
    {"cache_prompt": True},
    {"continue_final_message": False},
    {"dry_multiplier": 0},
    {"include_stop_str_in_output": False},
    {"n_probs": 0},
    {"priority": 0},
    {"repeat_penalty": 1.0},
    {"return_token_ids": False},
    {"skip_special_tokens": True},
    {"spaces_between_special_tokens": True},
    {"stop_token_ids": []},
    {"stream_options": {}},
    {"tfs_z": 1},
    {"use_beam_search": False},
    {"xtc_probability": 0.0},
    {"echo": False},
    {"ignore_eos": False},
    {"min_tokens": 0},
    {"length_penalty": 1.0},
    {"typical_p": 1},
    {"mirostat": 0},
]
NEUTRAL: dict[str, list[dict[str, Any]]] = {
    "chat": [
        *BOTH,
        {"n": 1},
        {"n": 1.0},
        {"logit_bias": {}},
        {"logit_bias": {"50256": 0}},
        {"logprobs": False},
        {"modalities": ["text"]},
        {"response_format": {"type": "text"}},
        {"reasoning_effort": "none"},
        {"verbosity": "medium"},
        {"functions": []},
        {"function_call": "none"},
        {"function_call": "auto"},
        {"prediction": {"type": "content", "content": "an old file"}},
        {"stop": []},
        {"store": False},
        {"stream": True, "stream_options": {"include_usage": False}},
        {"stream": True, "stream_options": {"include_usage": None}},
    ],
    "responses": [
        *BOTH,
        {"background": False},
        {"include": []},
        {"include": ["reasoning.encrypted_content", "file_search_call.results"]},
        {"truncation": "disabled"},
        {"text": {}},
        {"text": {"format": {"type": "text"}, "verbosity": "medium"}},
        {"reasoning": {}},
        {"reasoning": {"context": "auto", "mode": "standard"}},
        {"max_tool_calls": 5},
        {"context_management": []},
        {"access_programs": {"cyber": "standard"}},
        {"background_options": {"completion_window": "soonest", "continuation_id": "c"}},
        {"image": {"context_compression": "auto"}},
        {"instructions": ""},
    ],
}


@pytest.mark.rule("O16")
@pytest.mark.parametrize(
    ("call", "more"), [(call, more) for call, found in NEUTRAL.items() for more in found], ids=str
)
def test_what_changes_nothing_is_taken(call: str, more: dict[str, Any]) -> None:
    parse, body, *_ = CALLS[call]
    without_note = {"exclude": {"note"}}
    assert parse(body | more).model_dump(**without_note) == parse(body).model_dump(**without_note)


IN_MESSAGES: list[tuple[dict[str, Any], str]] = [
    ({"role": "assistant", "content": ""}, ""),
    ({"role": "assistant", "content": []}, ""),
    ({"role": "assistant"}, ""),
    ({"role": "system", "content": ""}, ""),
    ({"role": "user", "content": "b", "name": "bob"}, "b"),
    ({"role": "user", "content": "b", "cache_control": CACHED}, "b"),
    ({"role": "user", "content": [{"type": "text", "text": "b", "cache_control": CACHED}]}, "b"),
    (
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "b", "prompt_cache_breakpoint": {"mode": "explicit"}}
            ],
        },
        "b",
    ),
    ({"role": "assistant", "content": "b", "tool_calls": [], "audio": None}, "b"),
    ({"role": "assistant", "content": "b", "refusal": "", "function_call": {}}, "b"),
    ({"role": "assistant", "content": "b", "annotations": [], "phase": "final_answer"}, "b"),
    ({"role": "assistant", "content": '{"a": 1}', "parsed": {"a": 1}}, '{"a": 1}'),
    ({"role": "assistant", "content": "b", "reasoning_content": ""}, "b"),
    ({"role": "assistant", "content": "b", "reasoning_content": "hm"}, "b"),
    ({"role": "assistant", "content": "b", "provider_specific_fields": {}}, "b"),
    (
        {
            "role": "assistant",
            "content": [
                {
                    "type": "output_text",
                    "text": "b",
                    "annotations": [{"type": "url_citation", "url": "https://example.org"}],
                    "logprobs": [],
                }
            ],
            "status": "incomplete",
            "id": "msg_1",
        },
        "b",
    ),
]


@pytest.mark.rule("O16")
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(("message", "text"), IN_MESSAGES, ids=str)
def test_what_changes_nothing_is_taken_in_a_message(
    call: str, message: dict[str, Any], text: str
) -> None:
    parse, body, items, *_ = CALLS[call]
    kept = parse(body | {items: [*body[items], message]})
    assert kept.messages is not None
    last = kept.messages[-1]
    assert (last.role, last.content) == (message["role"], text)


# what changes something

CHANGES: dict[str, list[dict[str, Any]]] = {
    "chat": [
        {"n": 2},
        {"logit_bias": {"1": 1}},
        {"logprobs": True, "top_logprobs": 6},
        {"modalities": ["text", "audio"]},
        {"response_format": {"type": "xml"}},
        {"reasoning_effort": "a lot"},
        {"verbosity": "low"},
        {"functions": [{"name": "f"}]},
        {"web_search_options": {}},
        {"audio": {"voice": "alloy", "format": "wav"}},
        {"stream": True, "stream_options": {"include_obfuscation": True}},
        {"messages": [{"role": "assistant", "content": "a", "tool_calls": [{"id": "c"}]}]},
        {"messages": [{"role": "tool", "content": "a", "tool_call_id": "c"}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
    ],
    "responses": [
        {"include": ["message.output_text.all"]},
        {"truncation": "auto"},
        {"text": {"format": {"type": "xml"}}},
        {"text": {"verbosity": "high"}},
        {"reasoning": {"effort": "a lot"}},
        {"reasoning": {"summary": "auto"}},
        {"context_management": [{"type": "compaction"}]},
        {"conversation": "conv_1"},
        {"prompt": {"id": "p"}},
        {"background_options": {"completion_window": "8h"}},
        {"input": [{"type": "function_call_output", "call_id": "c", "output": "o"}]},
    ],
}
ALSO = [
    {"tools": [{"type": "custom", "custom": {"name": "f"}}]},
    {"tool_choice": "required"},
    {"service_tier": "flex"},
    {"top_logprobs": 1},
    {"moderation": {"model": "m"}},
    {"prompt_cache_options": {"prewarm": True}},
    {"best_of": 2},
    {"ignore_eos": True},
    {"repeat_penalty": 1.1},
    {"skip_special_tokens": False},
    {"stop_token_ids": [2]},
    {"chat_template_kwargs": {"messages": "a"}},
    {"vendors_own": 1},
]


@pytest.mark.rule("O17")
@pytest.mark.parametrize(
    ("call", "more"),
    [(call, more) for call, found in CHANGES.items() for more in [*found, *ALSO]],
    ids=str,
)
def test_what_would_change_the_answer_is_refused_by_name(call: str, more: dict[str, Any]) -> None:
    parse, body, *_ = CALLS[call]
    with pytest.raises(OpenAIError) as refused:
        parse(body | more)
    error = refused.value
    assert error.status == 400
    assert error.field is not None
    assert error.field.partition(".")[0].partition("[")[0] in more
    assert "model" not in error.message.replace("'model'", ""), "it is Lore that has none"


# and nothing is left over

UNLIKE = {"add_special_tokens", "return_token_ids"}
"""Of other servers, and not the same for a completion."""


@pytest.mark.rule("O17")
@pytest.mark.parametrize("call", CALLS)
def test_every_parameter_of_the_package_is_known(call: str) -> None:
    """So that what is new there is refused as not offered, and not as unknown."""
    _, _, _, kind, model, neutral = CALLS[call]
    others = {"top_k", "min_p", "repetition_penalty", "chat_template_kwargs"}
    others |= {"presence_penalty", "frequency_penalty", *UNLIKE} - fields(kind).keys()
    others |= {name for name in Neutral.model_fields if name not in fields(kind)}
    assert fields(kind).keys() == model.model_fields.keys() - others
    named = {name for more in NEUTRAL[call] for name in more}
    only_null = {
        name
        for name in neutral.model_fields
        if neutral.model_json_schema()["properties"][name].get("type") == "null"
    }
    assert neutral.model_fields.keys() == (named & neutral.model_fields.keys()) | only_null
    assert not [hint for hint in fields(kind).values() if get_origin(hint) is Literal and not hint]
