"""Tools, formats and log probabilities in a request: what is refused, and how they are kept."""

import json
from typing import Any

import pytest

from lore.messages import Message
from lore.request import KeptRequest, StreamRequest
from lore.request_limits import RequestLimits
from lore.tools import MAX_SCHEMA_BYTES, MAX_SCHEMA_DEPTH, MAX_TOOLS, NamedTool
from lore_edge.admission.create import parse
from lore_edge.wire.errors import ApiError

CALL = {"id": "call_1", "name": "weather", "arguments": '{"city": "Oslo"}'}
TOOL: dict[str, Any] = {"name": "weather", "parameters": {"type": "object"}}
TURNS: list[dict[str, Any]] = [
    {"role": "user", "content": "How is the weather?"},
    {"role": "assistant", "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "call_1", "content": "Rain."},
]


def asked(**body: Any) -> StreamRequest:
    given = {"messages": TURNS, "tools": [TOOL]} | body
    return parse(json.dumps(given).encode(), RequestLimits())


def deep(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels - 1):
        schema = {"not": schema}
    return schema


def test_a_call_needs_no_content_and_its_result_names_it() -> None:
    messages = asked().messages
    assert messages is not None
    assert messages[1].tool_calls is not None
    assert messages[1].content == ""
    assert messages[1].tool_calls[0].arguments == CALL["arguments"]
    assert messages[2].tool_call_id == "call_1"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"tools": []}, "tools"),
        ({"tools": [TOOL, {"name": "time"}, TOOL]}, "tools.2.name"),
        ({"tools": [{"name": "no blanks"}]}, "tools.0.name"),
        ({"tools": [{"name": f"t{n}"} for n in range(MAX_TOOLS + 1)]}, "tools"),
        ({"tools": [{"name": "a", "parameters": deep(33)}]}, "tools.0.parameters"),
        ({"tools": [{"name": "a", "parameters": {"a": "x" * 65_536}}]}, "tools.0.parameters"),
        ({"tools": [{"name": "a", "parameters": True}]}, "tools.0.parameters"),
        ({"tools": [{"name": "a", "other": 1}]}, "tools.0.other"),
        ({"tool_choice": {"name": "time"}}, "tool_choice.name"),
        ({"tool_choice": "required", "tools": None}, "tool_choice"),
        ({"response_format": {"type": "json_schema", "name": "a"}}, "response_format"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"logprobs": 6}, "logprobs"),
        ({"logprobs": True}, "logprobs"),
        ({"messages": [*TURNS[:2], TURNS[2] | {"tool_call_id": "2"}]}, "messages.2.tool_call_id"),
        ({"messages": [TURNS[0], TURNS[2], TURNS[1]]}, "messages.1.tool_call_id"),
        ({"messages": [*TURNS, TURNS[1]]}, "messages.3.tool_calls.0.id"),
        ({"messages": [{"role": "user", "content": "a", "tool_calls": [CALL]}]}, "tool_calls"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "messages.0.tool_call_id"),
        ({"messages": [{"role": "assistant"}]}, "messages.0.content"),
        ({"messages": [{"role": "assistant", "tool_calls": []}]}, "messages.0.tool_calls"),
    ],
)
def test_what_is_wrong_is_refused_by_the_name_of_its_field(body: dict[str, Any], field: str):
    with pytest.raises(ApiError) as refused:
        asked(**body)
    assert refused.value.status == 400
    assert refused.value.field is not None
    assert field in refused.value.field


def test_the_largest_schema_and_the_deepest_are_taken() -> None:
    largest = {"a": "x" * (MAX_SCHEMA_BYTES - len('{"a":""}'))}
    for schema in (largest, deep(MAX_SCHEMA_DEPTH)):
        tools = asked(tools=[{"name": "a", "parameters": schema}]).tools
        assert tools is not None
        assert tools[0].parameters == schema


def test_null_says_nothing_but_in_a_schema() -> None:
    schema = {"type": ["string", "null"], "default": None, "enum": ["a", None]}
    given = asked(
        tools=[TOOL | {"description": None, "parameters": {"properties": {"a": schema}}}],
        response_format={"type": "json_schema", "name": "a", "schema": schema, "strict": None},
        metadata={"schema": None},
    )
    assert given.metadata == {}
    kept = KeptRequest.read(given.kept_json())
    assert kept.tools is not None
    assert kept.tools[0].parameters == {"properties": {"a": schema}}
    assert kept.response_format is not None
    assert kept.response_format.model_dump(by_alias=True)["schema"] == schema


def test_the_generator_reads_what_was_asked() -> None:
    given = asked(
        tool_choice={"name": "weather"},
        parallel_tool_calls=False,
        response_format={"type": "json_object"},
        logprobs=5,
    )
    kept = KeptRequest.read(given.kept_json(parts="hermes"))
    assert kept.tool_choice == NamedTool(name="weather")
    assert (kept.parallel_tool_calls, kept.logprobs, kept.parts) == (False, 5, "hermes")
    assert kept.messages == given.messages
    assert kept.tools == given.tools


@pytest.mark.rule("P19.7")
@pytest.mark.parametrize(
    "more",
    [
        {"tools": [TOOL]},
        {"response_format": {"type": "json_object"}},
        {"logprobs": 0},
        {"presence_penalty": 0.5},
        {"frequency_penalty": -0.5},
        {"messages": TURNS},
    ],
)
def test_a_release_before_refuses_what_it_would_ignore(more: dict[str, Any]) -> None:
    """It has no field for it, and forbids those that it does not know."""
    plain = {"messages": TURNS[:1]}
    kept = json.loads(StreamRequest.model_validate(plain | more).kept_json())
    known = json.loads(StreamRequest.model_validate(plain).kept_json())
    new_roles = {one["role"] for one in kept["messages"]} - {"user", "assistant"}
    assert kept.keys() - known.keys() == more.keys() - {"messages"}
    assert new_roles or kept.keys() > known.keys()


def test_a_release_before_reads_a_message_without_tools() -> None:
    message = Message(role="user", content="a")
    assert message.model_dump_json() == '{"role":"user","content":"a"}'
    kept = json.loads(StreamRequest(question="a").kept_json(parts="hermes"))
    assert kept["note"] == {"parts": "hermes"}, "it does not look into the note"
