"""What an answer may look like, as a grammar for llguidance.

A ``response_format`` makes the whole answer JSON; a call that is required makes it a call, written
as the model's chat template teaches it (``lore.parts.formats``). Nothing here knows a tokenizer
but for the ids of special tokens, so every generator makes the same grammar of a request.
"""

import json
from collections.abc import Callable
from typing import Any

from lore.parts.markers import MARKERS
from lore.protocol.lifecycle import INVALID_SCHEMA
from lore.request import StreamRequest
from lore.tools import JsonObject, JsonSchema, ResponseFormat, Tool
from lore_generator.engines.calls import arguments_of, most_calls, required, wrapper_of
from lore_generator.engines.conversation import Refused
from lore_generator.engines.schema_errors import first_error

WHITESPACE = r"[ \t\n\r]{0,24}"
"""Between the tokens of JSON: a small model that is never made to go on may write it for ever."""

Special = Callable[[str], int | None]
"""The id of a special token; None where the tokenizer has none of this text."""


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
    if tools := required(request):
        return [*_of_calls(request, tools, special), "said: calls"]
    if request.response_format is None:
        return None
    schema = json.dumps(_schema_of_format(request.response_format), ensure_ascii=False)
    answer = f"answer: %json {schema}"
    if request.tools and request.tool_choice in (None, "auto"):
        return [*_of_calls(request, request.tools, special), answer, "said: calls | answer"]
    return [answer, "said: answer"]


def _of_calls(request: StreamRequest, tools: list[Tool], special: Special) -> list[str]:
    wrapper, most = wrapper_of(request), most_calls(request)
    more = "" if most == 1 else f" ({_text(wrapper.separator)} call){{0,{most - 1}}}"
    around = [_marker(wrapper.opening, special), f"call{more}", _text(wrapper.closing)]
    rules = ["calls: " + " ".join(part for part in around if part)]
    rules.append("call: " + " | ".join(f"call{n}" for n in range(len(tools))))
    for number, tool in enumerate(tools):
        arguments = json.dumps(_schema_of_arguments(tool), ensure_ascii=False)
        before = _text(f'{wrapper.before}{{"name": "{tool.name}", "{wrapper.arguments}": ')
        rules.append(f"call{number}: {before} %json {arguments} {_text('}' + wrapper.after)}")
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
    whose, is_strict = f" of '{tool.name}'", tool.strict is True or tool.parameters is None
    return _checked(arguments_of(tool), "tools", whose, is_strict=is_strict)


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
