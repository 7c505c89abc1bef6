"""A constraint in the words of xgrammar, which vLLM and SGLang understand: a structural tag."""

import json
from typing import Any

from lore_generator.engines.remote.constraint import CallSyntax, Constraint

Json = dict[str, Any]


def structural_tag(constraint: Constraint) -> str:
    said: list[Json] = []
    if constraint.calls is not None:
        said.append(_calls(constraint.calls))
    if constraint.answer is not None:
        said.append(_json(constraint.answer))
    form = said[0] if len(said) == 1 else {"type": "or", "elements": said}
    if constraint.thought_end:
        thought = _tag("", {"type": "any_text"}, constraint.thought_end)
        space = {"type": "regex", "pattern": "[ \\n]{0,4}"}
        form = {"type": "sequence", "elements": [thought, space, form]}
    return json.dumps({"type": "structural_tag", "format": form})


def _calls(calls: CallSyntax) -> Json:
    return {
        "type": "tags_with_separator",
        "tags": [_tag(calls.before, _json(calls.schema), calls.after)],
        "separator": calls.separator,
        "at_least_one": True,
        "stop_after_first": calls.most == 1,
    }


def _tag(begin: str, content: Json, end: str) -> Json:
    return {"type": "tag", "begin": begin, "content": content, "end": end}


def _json(schema: Json) -> Json:
    return {"type": "json_schema", "json_schema": schema}
