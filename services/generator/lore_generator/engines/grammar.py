"""What an answer may look like, as a grammar for llguidance.

A ``response_format`` makes the whole answer JSON; a call that is required makes it a call, written
as the model's chat template teaches it (``lore.parts.formats``). Nothing here knows a tokenizer
but for the ids of special tokens, so every generator makes the same grammar of a request.
"""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from lore.parts.formats import ToolFormat
from lore.parts.markers import MARKERS
from lore.protocol.lifecycle import INVALID_SCHEMA
from lore.request import StreamRequest
from lore.tools import JsonObject, JsonSchema, NamedTool, ResponseFormat, Tool
from lore_generator.engines.conversation import Refused
from lore_generator.engines.schema_errors import first_error

WHITESPACE = r"[ \t\n\r]{0,24}"
"""Between the tokens of JSON: a small model that is never made to go on may write it for ever."""
MAX_CALLS = 32
UNNAMED: ToolFormat = "hermes"
"""How calls are written where the chat template has no word for it."""

Special = Callable[[str], int | None]
"""The id of a special token; None where the tokenizer has none of this text."""


class _Wrapper(NamedTuple):
    """What stands around the name and the arguments of a call, and between calls."""

    before: str
    between: str
    after: str
    separator: str
    opening: str = ""
    closing: str = ""
    """Around all calls. ``opening`` is a special token, where there is one of this text."""


_WRAPPERS: dict[ToolFormat, _Wrapper] = {
    "hermes": _Wrapper(
        '<tool_call>\n{"name": "', '", "arguments": ', "}\n</tool_call>", separator="\n"
    ),
    "llama3": _Wrapper('{"name": "', '", "parameters": ', "}", separator="; "),
    "mistral": _Wrapper(
        '{"name": "', '", "arguments": ', "}", ", ", opening="[TOOL_CALLS]", closing="]"
    ),
}


def grammar_of(request: StreamRequest, special: Special, opened: str = "") -> str | None:
    """The grammar that the answer keeps to; None when it may be anything. ``opened``: what the
    prompt leaves open (``left_open``). The model reasons first then, as it likes.

    Raises ``Refused`` for a schema that is none, or that is not supported, and says where.
    """
    rules = _rules(request, special)
    if rules is None:
        return None
    first = ""
    if opened:
        closing = MARKERS[request.form().tools].reasoning[opened]
        token = special(closing)
        # Up to the marker, and no further than the first one.
        said = (
            f"thought[lazy]: /(?s:.*)/ {_text(closing)}" if token is None else "thought: /(?s:.*)/"
        )
        rules = [*rules, said, r"space: /[ \n]{0,4}/"]
        first = "thought space " if token is None else f"thought <[{token}]> space "
    return "\n".join([f"start: {first}said", *rules, ""])


def _rules(request: StreamRequest, special: Special) -> list[str] | None:
    """Those that define ``said``."""
    calls = _calls(request)
    if calls:
        return [*_of_calls(request, calls, special), "said: calls"]
    if request.response_format is None:
        return None
    schema = json.dumps(_schema_of_format(request.response_format), ensure_ascii=False)
    answer = f"answer: %json {schema}"
    if request.tools and request.tool_choice in (None, "auto"):
        return [*_of_calls(request, request.tools, special), answer, "said: calls | answer"]
    return [answer, "said: answer"]


def _calls(request: StreamRequest) -> list[Tool]:
    """The tools of which one has to be called."""
    choice, tools = request.tool_choice, request.tools or []
    if isinstance(choice, NamedTool):
        return [tool for tool in tools if tool.name == choice.name]
    return tools if choice == "required" else []


def _of_calls(request: StreamRequest, tools: list[Tool], special: Special) -> list[str]:
    one = isinstance(request.tool_choice, NamedTool) or request.parallel_tool_calls is False
    wrapper = _WRAPPERS[request.form().tools or UNNAMED]
    more = "" if one else f" ({_text(wrapper.separator)} call){{0,{MAX_CALLS - 1}}}"
    around = [_marker(wrapper.opening, special), f"call{more}", _text(wrapper.closing)]
    rules = ["calls: " + " ".join(part for part in around if part)]
    rules.append("call: " + " | ".join(f"call{n}" for n in range(len(tools))))
    for number, tool in enumerate(tools):
        arguments = json.dumps(_schema_of_arguments(tool), ensure_ascii=False)
        before = _text(wrapper.before + tool.name + wrapper.between)
        rules.append(f"call{number}: {before} %json {arguments} {_text(wrapper.after)}")
    return rules


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False) if text else ""


def _marker(text: str, special: Special) -> str:
    if not text:
        return ""
    token = special(text)
    # Mistral's calls are a list behind the marker.
    return (_text(text) if token is None else f"<[{token}]>") + ' "["'


def _schema_of_format(wanted: ResponseFormat) -> dict[str, Any]:
    match wanted:
        case JsonObject():
            return _compilable({"type": "object"}, is_strict=True)
        case JsonSchema():
            return _checked(wanted.schema_, "response_format", "", is_strict=wanted.strict is True)


def _schema_of_arguments(tool: Tool) -> dict[str, Any]:
    if tool.parameters is None:
        nothing = {"type": "object", "properties": {}, "additionalProperties": False}
        return _compilable(nothing, is_strict=True)
    whose = f" of '{tool.name}'"
    if tool.parameters.get("type", "object") != "object":
        raise Refused(f"tools: the parameters{whose} have to be an object", INVALID_SCHEMA)
    schema = {"type": "object", **tool.parameters}
    return _checked(schema, "tools", whose, is_strict=tool.strict is True)


def _checked(schema: dict[str, Any], field: str, whose: str, *, is_strict: bool) -> dict[str, Any]:
    compilable = _compilable(schema, is_strict=is_strict)
    if error := first_error(compilable):
        where = f" at '{error.place}'" if error.place != "#" else ""
        raise Refused(f"{field}: schema{whose} not supported{where}: {error.why}", INVALID_SCHEMA)
    return compilable


def _compilable(schema: dict[str, Any], *, is_strict: bool) -> dict[str, Any]:
    """With what the compiler is told. What a schema that is not strict asks for beyond what the
    library can do is left out: the format of such an answer is a help and no promise."""
    told = {"whitespace_pattern": WHITESPACE, "lenient": not is_strict}
    return {**schema, "x-guidance": told}
