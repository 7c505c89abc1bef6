"""Tools in OpenAI's two formats: as a request names them, calls them and is answered."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from lore.messages import CallId, Message, Text, ToolCall
from lore.request import StreamRequest
from lore.tools import NamedTool, Tool, ToolChoice, ToolName
from lore_edge.openai.parameters import MAX_SHOWN, Parameters


class ChatTool(Parameters):
    type: Literal["function"] = "function"
    function: Tool

    def tool(self) -> Tool:
        return self.function


class ResponseTool(Tool):
    type: Literal["function"] = "function"

    def tool(self) -> Tool:
        return Tool.model_validate(self.model_dump(exclude={"type"}))


def _choice(value: Any) -> Any:
    if isinstance(value, str):
        if value in ("none", "auto", "required"):
            return value
    elif isinstance(value, dict) and value.get("type") == "function":
        named = value.get("function", value)
        if isinstance(named, dict) and isinstance(named.get("name"), str):
            return NamedTool(name=named["name"])
    shown = value.get("type") if isinstance(value, dict) else value
    raise PydanticCustomError(
        "unsupported_value",
        "Lore takes 'none', 'auto', 'required' or a function, and not '{shown}'",
        {"shown": str(shown)[:MAX_SHOWN]},
    )


_FUNCTION: dict[str, Any] = {
    "type": "object",
    "properties": {"type": {"const": "function"}, "name": {"type": "string"}},
    "required": ["type"],
}
Choice = Annotated[
    ToolChoice,
    BeforeValidator(_choice, json_schema_input_type=Literal["none", "auto", "required"]),
    Field(json_schema_extra=lambda schema: schema.update(anyOf=[dict(schema), _FUNCTION])),
]


def asked_for(
    tools: Sequence[ChatTool | ResponseTool], choice: ToolChoice | None, parallel: bool | None
) -> dict[str, Any]:
    """As a ``KeptRequest`` has it. Without tools, what is said of them says nothing."""
    if not tools and choice in (None, "none", "auto"):
        return {}
    return {
        "tools": [tool.tool() for tool in tools] or None,
        "tool_choice": choice,
        "parallel_tool_calls": parallel,
    }


# calls and results in what a request is asked. OpenAI's SDKs put the arguments that they parsed and
# a call's number in the stream into the calls that they give back: these say nothing new.


class _Function(Parameters):
    name: ToolName
    arguments: Text
    parsed_arguments: Any = None


class ChatCall(Parameters):
    """A call, in an assistant's message."""

    id: CallId
    type: Literal["function"] = "function"
    index: int | None = None
    function: _Function

    def call(self) -> ToolCall:
        called = self.function
        return ToolCall(id=self.id, name=called.name, arguments=called.arguments)


class ResponseCall(_Function):
    """A call, as an item of an input."""

    type: Literal["function_call"]
    id: str | None = None
    status: str | None = None
    call_id: CallId

    def message(self) -> Message:
        call = ToolCall(id=self.call_id, name=self.name, arguments=self.arguments)
        return Message(role="assistant", tool_calls=[call])


def joined(messages: Sequence[Message]) -> list[Message]:
    """With the calls that follow an answer in its message: to a model they are one turn."""
    turns: list[Message] = []
    for message in messages:
        before = turns[-1] if turns else None
        if before and before.role == "assistant" and message.tool_calls and not message.content:
            calls = [*(before.tool_calls or ()), *message.tool_calls]
            turns[-1] = Message(role="assistant", content=before.content, tool_calls=calls)
        else:
            turns.append(message)
    return turns


# what a response says that it was asked


def described(asked: StreamRequest) -> dict[str, Any]:
    choice = asked.tool_choice or "auto"
    if isinstance(choice, NamedTool):
        choice = {"type": "function", "name": choice.name}
    parallel = asked.parallel_tool_calls
    return {
        "parallel_tool_calls": True if parallel is None else parallel,
        "tool_choice": choice,
        "tools": [{"type": "function", **tool.model_dump()} for tool in asked.tools or ()],
    }
