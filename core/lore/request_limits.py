"""The limits of one request: settings of the edge, and bounds in the models."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo
from pydantic_core import CoreSchema, PydanticKnownError, core_schema

DEFAULT_MAX_TOKENS = 512


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """What an edge is configured to accept: the context for validating a body.

    A generator validates without these: it accepts whatever an edge accepted.
    """

    messages: int = 256
    message_chars: int = 100_000
    """The most characters in a question, in a prompt or in one message."""
    max_tokens: int = 32_768
    """The longest answer that can be asked for, in tokens."""
    default_max_tokens: int = DEFAULT_MAX_TOKENS
    """The limit of an answer if the request sets none, or what it counts for until it has ended
    (P17).
    """

    @property
    def prompt_ids(self) -> int:
        """The most token ids in a prompt. A token has a character or more."""
        return self.message_chars


def _too_many(most: int, found: int) -> PydanticKnownError:
    return PydanticKnownError(
        "too_long", {"field_type": "List", "max_length": most, "actual_length": found}
    )


_BOUNDS: dict[str, tuple[str, Callable[[Any], int], Callable[[int, int], PydanticKnownError]]] = {
    "messages": ("maxItems", len, _too_many),
    "prompt_ids": ("maxItems", len, _too_many),
    "message_chars": (
        "maxLength",
        len,
        lambda most, _: PydanticKnownError("string_too_long", {"max_length": most}),
    ),
    "max_tokens": (
        "maximum",
        int,
        lambda most, _: PydanticKnownError("less_than_equal", {"le": most}),
    ),
}


@dataclass(frozen=True, slots=True)
class Limit:
    """A bound by the limit of this name, if limits are given."""

    name: str

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.with_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {**handler(schema), _BOUNDS[self.name][0]: placeholder(self.name)}

    def _check(self, value: Any, info: ValidationInfo) -> Any:
        if isinstance(info.context, RequestLimits):
            _, measure, error = _BOUNDS[self.name]
            most, found = getattr(info.context, self.name), measure(value)
            if found > most:
                raise error(most, found)
        return value


_PLACEHOLDER = "RequestLimits."


def placeholder(name: str) -> str:
    """A placeholder for this limit in a JSON schema, until ``with_limits`` replaces it."""
    return _PLACEHOLDER + name


def with_limits(schema: Any, limits: RequestLimits) -> Any:
    """The JSON schema of a model, with an edge's own limits filled in."""
    if isinstance(schema, dict):
        given = cast("dict[str, Any]", schema)
        return {key: with_limits(value, limits) for key, value in given.items()}
    if isinstance(schema, list):
        items = cast("list[Any]", schema)
        return [with_limits(value, limits) for value in items]
    if isinstance(schema, str) and schema.startswith(_PLACEHOLDER):
        return getattr(limits, schema.removeprefix(_PLACEHOLDER))
    return schema
