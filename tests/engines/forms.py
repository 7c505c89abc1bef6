"""Requests whose answers have a form, for engines over HTTP."""

import json
from typing import Any

from lore.request import KeptRequest
from tests.engines.running import Running, ask

SCHEMA = {
    "type": "object",
    "properties": {"river": {"type": "string"}, "km": {"type": "integer"}},
    "required": ["river", "km"],
    "additionalProperties": False,
}
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [
    {"name": "look", "strict": True, "parameters": CITY},
    {"name": "sum", "parameters": {"properties": {"a": {"$ref": "#/properties/b"}, "b": {}}}},
]
MUST: dict[str, Any] = {"tools": TOOLS, "tool_choice": "required"}
WET = {
    "type": "object",
    "properties": {"wet": {"type": "boolean"}},
    "required": ["wet"],
    "additionalProperties": False,
}
"""Of few tokens."""


def kept(parts: str = "", **more: Any) -> KeptRequest:
    asked = ask(max_tokens=100, **more).model_dump(by_alias=True, exclude_none=True)
    return KeptRequest.model_validate(asked | {"parts": parts})


def as_json(schema: dict[str, Any] = SCHEMA, *, strict: bool = True, **more: Any) -> KeptRequest:
    wanted = {"type": "json_schema", "name": "river", "schema": schema, "strict": strict}
    return kept(response_format=wanted, **more)


def _wet(parts: str, **more: Any) -> KeptRequest:
    tools = [{"name": "tell", "parameters": WET, "strict": True}]
    return kept(parts, tools=tools, tool_choice="required", parallel_tool_calls=False, **more)


REAL = {
    "JSON": as_json(WET),
    "Hermes": _wet("hermes"),
    "Llama": _wet("llama3"),
    "Mistral": _wet("mistral"),
    "JSON or a call": as_json(
        WET, tools=[{"name": "tell", "parameters": WET}], parallel_tool_calls=False
    ).model_copy(update={"parts": "hermes"}),
}


def keeps_its_form(running: Running, name: str) -> None:
    """Whole, under a window, and taken over in its middle. ``Running`` raises for an answer that
    is not as it has to be.
    """
    ids, text = running.whole(name, REAL[name])
    assert running.sink.of(name)[-1].finish_reason == "stop"
    begin = text.index("{")
    assert "wet" in json.dumps(json.JSONDecoder().raw_decode(text, begin)[0])
    assert running.windowed(f"{name}, windowed", REAL[name], 6) == (ids, text)
    half = len(ids) // 2
    rest = running.whole(f"{name}, taken over", REAL[name], log=ids[:half])
    assert rest == (ids[half:], text)
