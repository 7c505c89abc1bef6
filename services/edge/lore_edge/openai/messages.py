"""Messages in OpenAI's format: text, and the members that may accompany it (O16).

Clients may send back an answer with all the members in which it came, and also the members of other
servers, as long as they change nothing.
"""

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from lore.messages import CallId, Message, Text, check_content, content_schema
from lore_edge.openai.parameters import MAX_SHOWN, Parameters
from lore_edge.openai.tools import ChatCall

_TEXT_PARTS = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}
"""The types of parts that are text, each with the member that contains the text."""
_LABELS = frozenset(
    ("id", "status", "name", "phase", "cache_control", "reasoning_content", "reasoning", "parsed")
)
"""Members of a message that change nothing, whatever their value."""
_PART_LABELS = frozenset(
    ("annotations", "logprobs", "cache_control", "prompt_cache_breakpoint", "parsed")
)
_NOT_OFFERED = frozenset(("refusal", "annotations", "audio", "function_call"))
_EMPTY: tuple[Any, ...] = (None, "", [], {}, False, 0)


def _text(content: Any) -> Any:
    """The text of content that is a string, or a list of parts of text."""
    if not isinstance(content, list):
        return content
    texts: list[str] = []
    for part in content:
        if not isinstance(part, dict) or not isinstance(part.get("type"), str):
            raise PydanticCustomError("invalid_type", "an array of objects that have a type")
        kind = part["type"]
        if (member := _TEXT_PARTS.get(kind)) is None:
            raise PydanticCustomError(
                "unsupported_value",
                "Lore takes text alone, and not '{kind}'",
                {"kind": kind[:MAX_SHOWN]},
            )
        if not isinstance(text := part.get(member), str):
            raise PydanticCustomError("invalid_type", "a part of text needs its text, a string")
        for name in part.keys() - {"type", member} - _PART_LABELS:
            if part[name] not in _EMPTY:
                raise PydanticCustomError(
                    "unsupported_parameter",
                    "Lore does not offer '{name}' in a part of text",
                    {"name": name[:MAX_SHOWN]},
                )
        texts.append(text)
    return "".join(texts)


# Only for the description of the API: ``_text`` checks parts.
class TextPart(BaseModel):
    """A part of a message: text."""

    type: Literal["text", "input_text", "output_text"]
    text: Text


Content = Annotated[Text, BeforeValidator(_text, json_schema_input_type=Text | list[TextPart])]


class Turn(Parameters):
    """One message. An answer may be empty, and have no content at all."""

    model_config = ConfigDict(json_schema_extra=content_schema)

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant", "tool"]
    tool_calls: list[ChatCall] | None = None
    tool_call_id: Annotated[CallId | None, Field(validate_default=True)] = None
    content: Annotated[Content | None, Field(validate_default=True)] = None

    @model_validator(mode="before")
    @classmethod
    def _without_the_rest(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        if (kind := value.get("type", "message")) != "message":
            raise PydanticCustomError(
                "unsupported_value",
                "Lore takes messages, and not '{kind}'",
                {"kind": str(kind)[:MAX_SHOWN]},
            )
        if value.get("refusal") and value.get("content") in _EMPTY:
            value = {**value, "content": value["refusal"], "refusal": None}
        for name in _NOT_OFFERED & value.keys():
            if value[name] not in _EMPTY:
                raise PydanticCustomError(
                    "unsupported_parameter", "Lore does not offer '{name}'", {"name": name}
                )
        kept = {"type", "role", "content"}
        return {
            name: inner
            for name, inner in value.items()
            if name not in _LABELS and (name in kept or inner not in _EMPTY)
        }

    @field_validator("tool_calls", "tool_call_id")
    @classmethod
    def _of_its_role(cls, value: Any, info: ValidationInfo) -> Any:
        role = "assistant" if info.field_name == "tool_calls" else "tool"
        is_its_role = info.data.get("role", role) == role
        if value is None and role == "tool" and is_its_role and "role" in info.data:
            raise PydanticCustomError("missing", "it is required")
        if value is not None and not is_its_role:
            raise PydanticCustomError(
                "unsupported_value", "it is only for the role '{role}'", {"role": role}
            )
        return value

    @field_validator("content")
    @classmethod
    def _said(cls, content: str | None, info: ValidationInfo) -> str:
        role = info.data.get("role")
        if content is None and role in ("system", "developer", "user"):
            raise PydanticCustomError("missing", "it is required")
        return check_content(role, content or "")

    def message(self) -> Message:
        """The message as Lore has it. ``developer`` is the name that newer models have for
        ``system``.
        """
        role = "system" if self.role == "developer" else self.role
        calls = [call.call() for call in self.tool_calls or ()]
        return Message(
            role=role,
            content=self.content or "",
            tool_calls=calls or None,
            tool_call_id=self.tool_call_id,
        )
