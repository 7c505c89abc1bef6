"""The messages of a conversation, with the calls of tools and their results."""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError, PydanticKnownError

from lore.request_limits import Limit
from lore.tools import ToolName, ToolPart

MAX_CALLS = 128

Text = Annotated[str, Limit("message_chars")]
CallId = Annotated[str, Field(min_length=1, max_length=256)]


def check_content(role: object, content: str) -> str:
    """Check a message's content. Answers and instructions may be empty; an empty user message is a
    mistake.
    """
    if not content and role == "user":
        raise PydanticKnownError("string_too_short", {"min_length": 1})
    return content


def content_schema(schema: dict[str, Any]) -> None:
    """The check of ``check_content`` as JSON schema."""
    schema["anyOf"] = [
        {"properties": {"role": {"not": {"const": "user"}}}},
        {"properties": {"content": {"minLength": 1}}},
    ]


class ToolCall(ToolPart):
    """A call of a tool by the assistant."""

    id: CallId
    name: ToolName
    arguments: Text
    """JSON as the model wrote it, which need not be valid."""


def _message_schema(schema: dict[str, Any]) -> None:
    """The checks of ``Message``'s validators as JSON schema."""
    content_schema(schema)
    calls = _with("tool_calls", "array", "assistant")
    result = _with("tool_call_id", "string", "tool")
    schema["allOf"] = [
        {"anyOf": [{"required": ["content"]}, calls]},
        {"anyOf": [result, {"properties": {"role": {"not": {"const": "tool"}}}}]},
        {"anyOf": [{"properties": {"tool_calls": {"type": "null"}}}, calls]},
        {"anyOf": [{"properties": {"tool_call_id": {"type": "null"}}}, result]},
    ]


def _with(member: str, kind: str, role: str) -> dict[str, Any]:
    properties = {"role": {"const": role}, member: {"type": kind}}
    return {"required": [member], "properties": properties}


class Message(BaseModel):
    """An assistant's message with ``tool_calls`` needs no content. One of the role ``tool`` has a
    call's result, and names the call."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        json_schema_extra=_message_schema,
    )

    role: Literal["system", "user", "assistant", "tool"]
    tool_calls: Annotated[list[ToolCall], Field(min_length=1, max_length=MAX_CALLS)] | None = None
    tool_call_id: CallId | None = None
    content: Annotated[Text, Field(validate_default=True)] = ""

    @field_validator("tool_calls", "tool_call_id")
    @classmethod
    def _of_its_role(cls, value: Any, info: ValidationInfo) -> Any:
        role = "assistant" if info.field_name == "tool_calls" else "tool"
        if value is not None and info.data.get("role", role) != role:
            raise PydanticCustomError("wrong_role", f"only for the role '{role}'")
        return value

    @field_validator("content")
    @classmethod
    def _not_empty(cls, content: str, info: ValidationInfo) -> str:
        return check_content(info.data.get("role"), content)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.role == "tool" and self.tool_call_id is None:
            raise missing("tool_call_id")
        if "content" not in self.model_fields_set and not self.tool_calls:
            raise missing("content")
        return self

    @model_serializer(mode="wrap")
    def _as_before(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Write a message without tools as older releases do, because they know no other."""
        data: dict[str, Any] = dump(self)
        more = {name: data.pop(name, None) for name in ("tool_calls", "tool_call_id")}
        return data | {name: value for name, value in more.items() if value is not None}


def check_results(messages: list[Message]) -> list[Message]:
    """Raises for a result without an earlier call, and for a call whose id another one has."""
    calls = set[str]()
    for number, message in enumerate(messages):
        if message.role == "tool" and message.tool_call_id not in calls:
            raise found_at(f"{number}.tool_call_id", "no message before it has a call with this id")
        for place, call in enumerate(message.tool_calls or ()):
            if call.id in calls:
                raise found_at(f"{number}.tool_calls.{place}.id", "another call has this id")
            calls.add(call.id)
    return messages


def missing(name: str) -> PydanticCustomError:
    return PydanticCustomError("missing", "Field required", {"at": name})


def found_at(at: str, message: str) -> PydanticCustomError:
    """An error deeper inside than the validator that raises it. ``at`` is the path from there."""
    return PydanticCustomError("invalid", "{why}", {"at": at, "why": message})


_TAGGED = (("response_format",), ("text", "format"), ("prompt",))
"""What is of several kinds: pydantic puts the kind into the location, as if it were a member."""


def place_of(error: Any) -> tuple[str | int, ...]:
    """The location of a validation error, including the path from ``found_at``."""
    loc = error["loc"]
    if loc[-1:] == ("[key]",):  # what is wrong is the name of a member
        loc = loc[:-1]
    for path in _TAGGED:
        if loc[: len(path)] == path:
            loc = (*path, *loc[len(path) + 1 :])
    at = str(error.get("ctx", {}).get("at", ""))
    inside = [int(part) if part.isdecimal() else part for part in at.split(".") if part]
    return (*loc, *inside)
