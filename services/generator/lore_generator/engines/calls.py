"""How an answer is written that has to call a tool."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from lore.parts.formats import ToolFormat
from lore.protocol.lifecycle import INVALID_SCHEMA
from lore.request import StreamRequest
from lore.tools import NamedTool, Tool
from lore_generator.engines.conversation import Refused

Json = dict[str, Any]
MAX_CALLS = 32
UNNAMED: ToolFormat = "hermes"
"""How calls are written where the chat template has no word for it."""


class Wrapper(NamedTuple):
    """What stands around a call, which is an object of its name and its arguments."""

    before: str
    after: str
    separator: str
    """Between two calls."""
    arguments: str
    """The name of that member."""
    opening: str = ""
    closing: str = ""
    """Around all calls. ``opening`` is a special token, where there is one of this text, with a
    bracket behind it.
    """


WRAPPERS: Mapping[ToolFormat, Wrapper] = {
    "hermes": Wrapper("<tool_call>\n", "\n</tool_call>", "\n", "arguments"),
    "llama3": Wrapper("", "", "; ", "parameters"),
    "mistral": Wrapper("", "", ", ", "arguments", opening="[TOOL_CALLS]", closing="]"),
}


def wrapper_of(request: StreamRequest) -> Wrapper:
    return WRAPPERS[request.form().tools or UNNAMED]


def required(request: StreamRequest) -> list[Tool]:
    """The tools of which one has to be called."""
    choice, tools = request.tool_choice, request.tools or []
    if isinstance(choice, NamedTool):
        return [tool for tool in tools if tool.name == choice.name]
    return tools if choice == "required" else []


def most_calls(request: StreamRequest) -> int:
    one = isinstance(request.tool_choice, NamedTool) or request.parallel_tool_calls is False
    return 1 if one else MAX_CALLS


def arguments_of(tool: Tool) -> Json:
    """The schema of a tool's arguments. Raises ``Refused`` if they are no object."""
    if tool.parameters is None:
        return {"type": "object", "properties": {}, "additionalProperties": False}
    if tool.parameters.get("type", "object") != "object":
        raise Refused(
            f"tools: the parameters of '{tool.name}' have to be an object", INVALID_SCHEMA
        )
    return {"type": "object", **tool.parameters}


def moved(schema: Any, root: str) -> Any:
    """A schema whose references point to where it now is: ``root``, a pointer from ``#``."""
    match schema:
        case dict():
            return {
                key: root + inner[1:]
                if key == "$ref" and isinstance(inner, str) and inner.startswith("#")
                else moved(inner, root)
                for key, inner in schema.items()
            }
        case list():
            return [moved(inner, root) for inner in schema]
        case _:
            return schema
