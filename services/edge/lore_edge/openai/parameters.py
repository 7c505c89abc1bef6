"""Validates parameters as OpenAI does; none is dropped silently.

A parameter is honoured, or is known and accepts only neutral values, or is refused by name. Null
counts as absent, at every depth.
"""

import json
import re
from collections.abc import Callable, Mapping
from functools import cache, wraps
from typing import Annotated, Any, Literal, ParamSpec, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from lore.messages import place_of
from lore.request import KeptRequest, Metadata, Penalty, Stop, Stops
from lore.request_limits import RequestLimits
from lore.template_args import TemplateArgs
from lore.tools import TopLogprobs
from lore_edge.openai.errors import OpenAIError, prompt_too_long, refused
from lore_edge.wire.asgi import is_unicode, without_nulls

MAX_SHOWN = 64  # of a value that a caller made up, in characters
KINDS = ("a message", "a reference", "a call", "a result", "a thought")
"""The kinds of items in an input. In the location of an error they stand between an item's number
and its fields.
"""
_NAMES = {
    "int": "an integer",
    "float": "a decimal",
    "bool": "a boolean",
    "string": "a string",
    "list": "an array",
    "dict": "an object",
    "model": "an object",
}
_PROMPT = ("messages", "input", "instructions", "prompt")
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

Temperature = Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63), AfterValidator(lambda seed: seed % 2**63)]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
TopP = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
StopSequences = Annotated[
    Stops,
    BeforeValidator(
        lambda value: [value] if isinstance(value, str) else value,
        json_schema_input_type=Stop | Stops,
    ),
]


class Parameters(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Honoured(Parameters):
    """The parameters that all calls honour: those of a model here that are not in ``Neutral``."""

    model: str
    stream: bool = False
    temperature: Temperature = 1.0
    top_p: TopP = 1.0
    top_k: Annotated[int, Field(ge=-1, le=1_000)] = 0
    """Not OpenAI's, but of most servers that speak its API; 0 and -1 leave nothing out."""
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    repetition_penalty: Annotated[float, Field(ge=0.1, le=2)] = 1.0
    presence_penalty: Penalty = 0.0
    frequency_penalty: Penalty = 0.0
    metadata: Metadata = Field(default={})
    user: str | None = None

    def sampling(self) -> dict[str, Any]:
        """The sampling parameters of a ``KeptRequest``. Absent ones have OpenAI's defaults, not
        Lore's (O14).

        A ``top_p`` of 0 leaves only the likeliest token, as a ``top_k`` of 1 does.
        """
        return {
            "temperature": self.temperature,
            "top_p": self.top_p or 1.0,
            "top_k": max(0, self.top_k) if self.top_p else 1,
            "min_p": self.min_p or None,
            "repetition_penalty": self.repetition_penalty,
            "presence_penalty": self.presence_penalty or None,
            "frequency_penalty": self.frequency_penalty or None,
        }


class OfMessages(Honoured):
    """Those that the calls with messages honour."""

    chat_template_kwargs: TemplateArgs = Field(default={})
    """More for the model's chat template, under the name that most such servers have for it."""
    parallel_tool_calls: bool | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    top_logprobs: TopLogprobs = 0


Model = TypeVar("Model", bound=Honoured)
P = ParamSpec("P")
Place = tuple[str | int, ...]
"""Where something is in a body: ``("messages", 0, "content")``."""


def check(
    model: type[Model], neutral: type[Parameters], body: Mapping[str, Any], limits: RequestLimits
) -> Model:
    """Validate a body. ``neutral`` has the parameters that accept only neutral values.

    Raises OpenAIError 400, which names the first parameter that is wrong.
    """
    given: dict[str, Any] = {}
    for name, value in body.items():
        if not is_unicode(name) or not is_unicode(value):
            shown = name.encode(errors="replace").decode()[:MAX_SHOWN]
            raise refused("invalid_value", f"Invalid '{shown}': not valid Unicode.", shown)
        if value is None:
            continue
        if name not in model.model_fields:
            raise unknown(name)
        given[name] = value
    try:
        return model.model_validate(without_nulls(given), context=limits)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
    first["loc"] = place_of(first)
    name = str(first["loc"][0]) if first["loc"] else ""
    raise _not_neutral(name, neutral) if name in neutral.model_fields else _refusal(first)


def kept_or_refused(
    place: Callable[[Place], Place] = lambda ours: ours,
) -> Callable[[Callable[P, KeptRequest]], Callable[P, KeptRequest]]:
    """A request whose parts do not fit together is refused as one that is wrong in itself.

    ``place``: where the caller wrote what is at a place in ours. Raises OpenAIError 400.
    """

    def checked(make: Callable[P, KeptRequest]) -> Callable[P, KeptRequest]:
        @wraps(make)
        def made(*args: P.args, **named: P.kwargs) -> KeptRequest:
            try:
                return make(*args, **named)
            except ValidationError as error:
                first = error.errors(include_url=False, include_input=False)[0]
            first["loc"] = place(place_of(first))
            raise _refusal(first)

        return made

    return checked


def unknown(name: str) -> OpenAIError:
    shown = name[:MAX_SHOWN]
    return refused("unknown_parameter", f"Unknown parameter: '{shown}'.", shown)


def takes(neutral: type[Parameters], name: str) -> str:
    """The neutral values of a parameter, in JSON or in words; '' when only null is one."""
    schema = _properties(neutral)[name]
    if "description" in schema:
        return schema["description"]
    some = next((one for one in schema.get("anyOf", [schema]) if one != {"type": "null"}), {})
    values = [some["const"]] if "const" in some else some.get("enum", [])
    return " or ".join(json.dumps(value) for value in values)


@cache
def _properties(model: type[Parameters]) -> dict[str, Any]:
    return model.model_json_schema()["properties"]


def _not_neutral(name: str, neutral: type[Parameters]) -> OpenAIError:
    if shown := takes(neutral, name):
        message = f"Unsupported value: Lore takes only {shown} for '{name}'."
        return refused("unsupported_value", message, name)
    message = f"Unsupported parameter: Lore does not offer '{name}'."
    return refused("unsupported_parameter", message, name)


def _refusal(details: ErrorDetails) -> OpenAIError:
    kind, message = details["type"], details["msg"].removeprefix("Value error, ")
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
    if kind in ("too_long", "string_too_long") and details["loc"][0] in _PROMPT:
        most = details.get("ctx", {})["max_length"]
        items = "token ids" if details["loc"][0] == "prompt" else "messages"
        unit = items if kind == "too_long" else "characters"
        return prompt_too_long(f"'{param}' may have at most {most} {unit}", param)
    if code in _BOUNDS:
        bounds = details.get("ctx", {}).values()
        code = f"{'decimal' if any(isinstance(b, float) for b in bounds) else 'integer'}_{code}"
    return refused(code, f"Invalid '{param}': {message}.", param)


def _param(loc: Place) -> str:
    """A location in OpenAI's notation: ``messages[0].content``."""
    named = [part for part in loc if part not in KINDS]
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in named)
    return re.sub(r"^\.", "", path)
