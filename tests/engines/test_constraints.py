"""What an engine is told of a form, and what becomes of a whole answer that is not of it."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from lore.request import KeptRequest
from lore_generator.engines.conversation import Refused
from lore_generator.engines.remote.constraint import CallSyntax, Constraint, constraint_of
from lore_generator.engines.remote.gbnf import gbnf
from lore_generator.engines.remote.validity import Validity
from tests.engines.forms import MUST, TOOLS, as_json, kept

REFUSED: dict[str, tuple[Callable[[], KeptRequest], str]] = {
    "no schema": (
        lambda: as_json({"properties": {"a": {"minimum": "x"}}}),
        "response_format: schema not supported at '#/properties/a/minimum': ",
    ),
    "not strict": (
        lambda: as_json({"type": "nope"}, strict=False),
        "response_format: schema not supported at '#/type': ",
    ),
    "without an end": (
        lambda: as_json({"required": ["a"], "properties": {"a": {"$ref": "#"}}, "type": "object"}),
        "response_format: schema not supported at '#/properties/a': recursion without an end",
    ),
    "elsewhere": (
        lambda: as_json({"$ref": "http://127.0.0.1:1/schema"}),
        "response_format: schema not supported: ",
    ),
    "a file": (
        lambda: as_json({"$ref": "file:///etc/hostname"}),
        "response_format: schema not supported: ",
    ),
    "of a tool": (
        lambda: kept(
            tools=[{"name": "f", "parameters": {"required": "a"}}], tool_choice="required"
        ),
        "tools: schema of 'f' not supported at '#/required': ",
    ),
    "no object": (
        lambda: kept(
            tools=[{"name": "f", "parameters": {"type": "array"}}], tool_choice="required"
        ),
        "tools: the parameters of 'f' have to be an object",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_schema_that_is_none_is_refused_with_its_place(case: str) -> None:
    request, said = REFUSED[case]
    with pytest.raises(Refused, match=re.escape(said)) as refused:
        Validity(request())
    assert refused.value.reason == "invalid_schema"


def calls(text: str, **more: Any) -> tuple[KeptRequest, str]:
    return kept("hermes", tools=TOOLS, **more), text


LOOK = '<tool_call>\n{"name": "look", "arguments": %s}\n</tool_call>'
JUDGED: dict[str, tuple[tuple[KeptRequest, str], str | None]] = {
    "whole": ((as_json(), ' {"river": "Rhine",\n"km": 1233} '), None),
    "half": ((as_json(), '{"river": "Rhine"'), "it is not JSON"),
    "beside it": ((as_json(), 'Here: {"river": "Rhine", "km": 1}'), "it is not JSON"),
    "no number": ((as_json(), '{"river": "Rhine", "km": NaN}'), "it is not JSON"),
    "deep": ((as_json(), "[" * 100_000), "it is not JSON"),
    "another type": (
        (as_json(), '{"river": "Rhine", "km": "far"}'),
        "at '#/km': it is not of type",
    ),
    "a wish": ((as_json(strict=False), '{"km": "far"}'), None),
    "no object": ((kept(response_format={"type": "json_object"}), "[]"), "it is not an object"),
    "a call": (calls(LOOK % '{"city": "Bonn"}', tool_choice="required"), None),
    "no call": (calls("I will not.", tool_choice="required"), "tool_choice: it calls no tool"),
    "another": (
        calls(LOOK % "{}", tool_choice={"name": "sum"}),
        "tool_choice: it calls another tool",
    ),
    "wrong arguments": (
        calls(LOOK % '{"city": 1}', tool_choice="required"),
        "tools: the arguments for 'look': at '#/city': it is not of type",
    ),
    "half a call": (
        calls('<tool_call>\n{"name": "look", "arguments": {"ci', tool_choice="required"),
        "tools: the arguments for 'look': it is not JSON",
    ),
    "call or JSON": (
        (as_json(tools=TOOLS).model_copy(update={"parts": "hermes"}), LOOK % '{"city": "B"}'),
        None,
    ),
    "behind reasoning": (
        (as_json().model_copy(update={"parts": "think"}), '<think>{</think>{"river":"","km":0}'),
        None,
    ),
}


@pytest.mark.parametrize("case", JUDGED)
@pytest.mark.rule("H19")
def test_a_whole_answer_is_judged_and_nothing_of_it_repeated(case: str) -> None:
    (request, text), said = JUDGED[case]
    fault = Validity(request).fault(text)
    assert (fault or "").startswith(said or "")
    assert (fault is None) == (said is None)
    assert "far" not in (fault or "")


CONSTRAINTS: dict[str, tuple[KeptRequest, str, tuple[str, str, str, int]]] = {
    "Hermes": (
        kept("hermes", **MUST),
        "",
        ("<tool_call>\n", "\n", "", 32),
    ),
    "Llama": (kept("llama3", **MUST), "", ("", "; ", "", 32)),
    "Mistral": (
        kept("mistral", **MUST),
        "",
        ("[TOOL_CALLS]", "", "", 1),
    ),
    "one call": (
        kept("hermes", tools=TOOLS, tool_choice={"name": "sum"}),
        "",
        ("<tool_call>\n", "\n", "", 1),
    ),
    "reasoning": (
        kept("mistral+think", **MUST),
        "[THINK]",
        ("[TOOL_CALLS]", "", "[/THINK]", 1),
    ),
}


@pytest.mark.parametrize("case", CONSTRAINTS)
def test_a_call_is_asked_for_as_the_template_writes_it(case: str) -> None:
    request, opened, expected = CONSTRAINTS[case]
    constraint = constraint_of(request, opened)
    assert constraint is not None
    assert constraint.calls is not None
    before, schema, _, separator, most = constraint.calls
    assert (before, separator, constraint.thought_end, most) == expected
    assert schema["$defs"]["tool0"]["type"] == "object"
    references = re.findall(r'"\$ref": "([^"]*)"', json.dumps(schema))
    assert all(
        one.split("/")[1:3] in (["$defs", "tool0"], ["$defs", "tool1"]) for one in references
    )


def test_the_names_of_rules_alone_are_renamed() -> None:
    call = CallSyntax("<a>", {}, '"', "; ", 3)
    made = gbnf(
        Constraint(call, {}), 'root ::= "root" [root] sp{2}\nsp ::= "\\""\n', "root ::= sp\n"
    )
    assert made.splitlines() == [
        "root ::= (calls | answer-root)",
        r'call ::= "<a>" call-root "\""',
        'calls ::= call ("; " call){0,2}',
        'call-root ::= "root" [root] call-sp{2}',
        r'call-sp ::= "\""',
        "",
        "answer-root ::= answer-sp",
        "",
    ]


@pytest.mark.parametrize("marker", ["</think>", "[/THINK]", "aab", "abab!"])
def test_reasoning_ends_at_the_first_marker(marker: str) -> None:
    rules = dict(
        line.split(" ::= ")
        for line in gbnf(Constraint(None, {}, marker), "", "").splitlines()
        if line.startswith("thought")
    )
    for text in (
        f"a<</think>b{marker[:3]}{marker}",
        marker[:-1] * 3 + marker,
        f"{marker[0]}{marker}",
    ):
        state, end = "thought0", 0
        while state:
            state, end = _step(rules[state], text[end]), end + 1
        assert text[:end] == text.partition(marker)[0] + marker


def _step(rule: str, letter: str) -> str:
    for way in rule.split(" | "):
        ours, _, state = way.partition(" ")
        if re.fullmatch(ours, letter, re.DOTALL):
            return state
    raise AssertionError(rule)
