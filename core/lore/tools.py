"""The tools that an answer may call, and the format that it must have."""

import json
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue
from pydantic_core import PydanticCustomError

from lore.kinds import of_kinds
from lore.strict_json import is_deeper

MAX_TOOLS = 128
MAX_SCHEMA_BYTES = 65_536
MAX_SCHEMA_DEPTH = 32
TopLogprobs = Annotated[int, Field(ge=0, le=5)]
"""How many of the likeliest tokens may be asked for."""


def _bounded(schema: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """Check a schema's size and depth. The grammar's compiler decides whether it supports it."""
    size = len(json.dumps(schema, ensure_ascii=False, separators=(",", ":")).encode())
    if size > MAX_SCHEMA_BYTES:
        raise PydanticCustomError(
            "schema_too_large",
            "a schema may have at most {most} bytes, and this has {size}",
            {"most": MAX_SCHEMA_BYTES, "size": size},
        )
    if is_deeper(schema, MAX_SCHEMA_DEPTH):
        raise PydanticCustomError(
            "schema_too_deep",
            "a schema may be nested at most {most} levels deep",
            {"most": MAX_SCHEMA_DEPTH},
        )
    return schema


ToolName = Annotated[str, Field(pattern="^[a-zA-Z0-9_-]{1,64}$")]
Schema = Annotated[dict[str, JsonValue], AfterValidator(_bounded)]


class ToolPart(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class Tool(ToolPart):
    """A function that the client can call."""

    name: ToolName
    description: Annotated[str, Field(max_length=16_384)] | None = None
    parameters: Schema | None = None
    """The JSON schema of its arguments, which are an object."""
    strict: bool | None = None
    """Whether its arguments must match the schema. Where the model decides whether to call, this is
    not enforced (P19.9).
    """


def _names_differ(tools: list[Tool]) -> list[Tool]:
    names = set[str]()
    for number, tool in enumerate(tools):
        if tool.name in names:
            raise PydanticCustomError(
                "equal_names", "another tool has this name", {"at": f"{number}.name"}
            )
        names.add(tool.name)
    return tools


Tools = Annotated[
    list[Tool], Field(min_length=1, max_length=MAX_TOOLS), AfterValidator(_names_differ)
]


class NamedTool(ToolPart):
    """The answer must be a call of this tool."""

    name: ToolName


ToolChoice = Annotated[
    Literal["auto", "none", "required"] | NamedTool,
    of_kinds("'auto', 'none', 'required' or the name of a tool in an object"),
]


class JsonObject(ToolPart):
    """The answer must be a JSON object."""

    type: Literal["json_object"]


class JsonSchema(ToolPart):
    """The answer must be JSON that matches a schema."""

    type: Literal["json_schema"]
    name: ToolName
    schema_: Annotated[Schema, Field(alias="schema")]
    strict: bool | None = None


ResponseFormat = Annotated[JsonObject | JsonSchema, Field(discriminator="type")]
