"""The form that an answer is to have, in OpenAI's two formats."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from lore.request import StreamRequest
from lore.tools import JsonObject, JsonSchema, ResponseFormat, Schema, ToolName
from lore_edge.openai.parameters import Parameters


class TextFormat(Parameters):
    type: Literal["text"] = "text"


class _Schema(Parameters):
    """``description`` is for the model of whoever puts it into a prompt: Lore puts none there."""

    name: ToolName
    description: str | None = None
    schema_: Annotated[Schema, Field(alias="schema")]
    strict: bool | None = None

    def asked_for(self) -> JsonSchema:
        given = {"name": self.name, "schema": self.schema_, "strict": self.strict}
        return JsonSchema.model_validate({"type": "json_schema", **given})


class ChatSchema(Parameters):
    type: Literal["json_schema"]
    json_schema: _Schema


class ResponseSchema(_Schema):
    type: Literal["json_schema"]


ChatFormat = Annotated[TextFormat | JsonObject | ChatSchema, Field(discriminator="type")]


ResponseFormats = Annotated[TextFormat | JsonObject | ResponseSchema, Field(discriminator="type")]


class TextOptions(Parameters):
    format: Annotated[ResponseFormats | None, BeforeValidator(lambda given: given or None)] = None
    verbosity: Literal["medium"] | None = None


def asked_for(
    given: TextFormat | JsonObject | ChatSchema | ResponseSchema | None,
) -> ResponseFormat | None:
    """As a ``KeptRequest`` has it; None for text."""
    match given:
        case ChatSchema():
            return given.json_schema.asked_for()
        case ResponseSchema():
            return given.asked_for()
        case JsonObject():
            return given
        case _:
            return None


def described(asked: StreamRequest) -> dict[str, Any]:
    """What a response says that it was asked."""
    wanted = asked.response_format
    said = wanted.model_dump(by_alias=True, mode="json") if wanted else {"type": "text"}
    return {"text": {"format": said}}
