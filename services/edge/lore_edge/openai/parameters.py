"""Parameters checked and refused as OpenAI does it: none is dropped in silence."""

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from lore.request import MAX_PROMPT_CHARS, MAX_TOKENS, Message, Stop, Stops
from lore_edge.openai.errors import OpenAIError, refused

Model = TypeVar("Model", bound=BaseModel)
Neutral = Mapping[str, tuple[Any, ...]]
"""Parameters that are known and not honoured: the values that change nothing, beside null."""

MAX_SHOWN = 64  # of what a caller made up
_TEXT_PARTS = ("text", "input_text", "output_text")
_NOT_IN_MESSAGES = frozenset(
    ("name", "refusal", "annotations", "audio", "function_call", "tool_calls", "phase")
)
_LABELS = frozenset(("id", "status"))
_EMPTY: tuple[Any, ...] = (None, "", [], {})
_NAMES = {
    "int": "an integer",
    "float": "a decimal",
    "bool": "a boolean",
    "string": "a string",
    "list": "an array",
    "dict": "an object",
    "model": "an object",
}
_BELOW, _ABOVE = _BOUNDS = ("below_min_value", "above_max_value")
_CODES = {
    "greater_than": _BELOW,
    "greater_than_equal": _BELOW,
    "less_than": _ABOVE,
    "less_than_equal": _ABOVE,
    "too_short": "empty_array",
    "too_long": "array_above_max_length",
    "string_too_short": "empty_string",
    "string_too_long": "string_above_max_length",
}


def _text(content: Any) -> Any:
    """The text of a content that is a string, or a list of parts of text."""
    if not isinstance(content, list):
        return content
    texts: list[str] = []
    for part in content:
        if not isinstance(part, dict) or not isinstance(part.get("type"), str):
            raise PydanticCustomError("invalid_type", "an array of objects that have a type")
        kind, text = part["type"], part.get("text")
        if kind not in _TEXT_PARTS:
            raise PydanticCustomError(
                "unsupported_value",
                "only text is supported, and not '{kind}'",
                {"kind": kind[:MAX_SHOWN]},
            )
        if not isinstance(text, str):
            raise PydanticCustomError("invalid_type", "a part of text needs its text, a string")
        for name in part.keys() - {"type", "text"}:
            if part[name] not in _EMPTY:
                raise PydanticCustomError(
                    "unsupported_parameter",
                    "a part of text has nothing but its text, and no {name}",
                    {"name": name[:MAX_SHOWN]},
                )
        texts.append(text)
    return "".join(texts)


Text = Annotated[str, Field(min_length=1, max_length=MAX_PROMPT_CHARS)]


class TextPart(BaseModel):
    """For the description alone: ``_text`` checks parts."""

    type: Literal["text", "input_text", "output_text"]
    text: Text


Content = Annotated[
    Text,
    BeforeValidator(
        _text,
        json_schema_input_type=Text | Annotated[list[TextPart], Field(min_length=1)],
    ),
]
Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]],
    Field(max_length=16),
]
Temperature = Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)]
TopP = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
StopSequences = Annotated[
    Stops,
    BeforeValidator(
        lambda value: [value] if isinstance(value, str) else value,
        json_schema_input_type=Stop | Stops,
    ),
]
MaxTokens = Annotated[int, Field(ge=1, le=MAX_TOKENS)]


class Parameters(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Turn(Parameters):
    """One message. What an answer of ours carries beside its text may be sent back with it."""

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: Content

    @model_validator(mode="before")
    @classmethod
    def _without_the_rest(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        for name in _NOT_IN_MESSAGES & value.keys():
            if value[name] not in _EMPTY:
                raise PydanticCustomError(
                    "unsupported_parameter", "'{name}' is not supported", {"name": name}
                )
        return {key: value[key] for key in value.keys() - _NOT_IN_MESSAGES - _LABELS}

    def message(self) -> Message:
        """``developer`` is what newer models call the system."""
        return Message(
            role="system" if self.role == "developer" else self.role, content=self.content
        )


def check(model: type[Model], body: Mapping[str, Any], neutral: Neutral) -> Model:
    """Raises OpenAIError 400 that names the first parameter that is wrong."""
    given: dict[str, Any] = {}
    for name, value in body.items():
        if not _is_unicode(name) or not _is_unicode(value):
            shown = name.encode(errors="replace").decode()[:MAX_SHOWN]
            raise refused("invalid_value", f"Invalid '{shown}': not valid Unicode.", shown)
        if name in model.model_fields:
            if value is not None:
                given[name] = value
        elif name not in neutral:
            raise unknown(name)
        elif value is not None and not any(_same(value, harmless) for harmless in neutral[name]):
            raise _not_neutral(name, neutral[name])
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise _refusal(error.errors(include_url=False, include_input=False)[0]) from None


def unknown(name: str) -> OpenAIError:
    shown = name[:MAX_SHOWN]
    return refused("unknown_parameter", f"Unknown parameter: '{shown}'.", shown)


def _is_unicode(value: Any) -> bool:
    """JSON can say halves of characters, which nothing can be kept or answered with."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _same(one: Any, other: Any) -> bool:
    """Null inside is the same as nothing, and true is not 1."""
    if isinstance(one, dict):
        one = {name: value for name, value in one.items() if value is not None}
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _not_neutral(name: str, allowed: tuple[Any, ...]) -> OpenAIError:
    shown = [json.dumps(value) for value in allowed if value not in ([], {})]
    if not shown:
        message = f"Unsupported parameter: '{name}' is not supported with this model."
        return refused("unsupported_parameter", message, name)
    message = f"Unsupported value: '{name}' supports only {' or '.join(shown)} with this model."
    return refused("unsupported_value", message, name)


def _refusal(details: ErrorDetails) -> OpenAIError:
    kind, message = details["type"], details["msg"]
    param = _param(details["loc"])
    if kind == "missing":
        return refused(
            "missing_required_parameter", f"Missing required parameter: '{param}'.", param
        )
    if kind == "extra_forbidden":
        return unknown(param)
    if kind in ("unsupported_value", "unsupported_parameter", "invalid_type"):
        return refused(kind, f"Invalid value for '{param}': {message}.", param)
    if kind == "literal_error":
        expected = details.get("ctx", {})["expected"]
        return refused(
            "invalid_value",
            f"Invalid value for '{param}'. Supported values are: {expected}.",
            param,
        )
    if kind.endswith("_type") and (wanted := _NAMES.get(kind.removesuffix("_type"))):
        return refused("invalid_type", f"Invalid type for '{param}': expected {wanted}.", param)
    code = _CODES.get(kind, "invalid_value")
    if code in _BOUNDS:
        bounds = details.get("ctx", {}).values()
        code = f"{'decimal' if any(isinstance(b, float) for b in bounds) else 'integer'}_{code}"
    return refused(code, f"Invalid '{param}': {message}.", param)


def _param(loc: tuple[str | int, ...]) -> str:
    """``messages[0].content``, as OpenAI writes where something is."""
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)
    return re.sub(r"^\.", "", path)
