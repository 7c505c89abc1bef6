"""An answer whose form an engine over HTTP keeps: one call, and what an interruption does to it."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from lore.request import KeptRequest
from lore_generator.engines.conversation import Refused
from lore_generator.engines.remote.constraint import Calls, Constraint, constraint_of
from lore_generator.engines.remote.gbnf import gbnf
from lore_generator.engines.remote.validity import Validity
from tests.engines.running import Running, ask
from tests.engines.stub import EOS, Stub
from tests.engines.stub_events import CALL, CALLED, FORM

SCHEMA = {
    "type": "object",
    "properties": {"river": {"type": "string"}, "km": {"type": "integer"}},
    "required": ["river", "km"],
    "additionalProperties": False,
}
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [
    {"name": "look", "strict": True, "parameters": CITY},
    {"name": "sum", "parameters": {"properties": {"a": {"$ref": "#/properties/b"}, "b": {}}}},
]
MUST: dict[str, Any] = {"tools": TOOLS, "tool_choice": "required"}
ANSWER = (*range(FORM, FORM + 5), EOS)


def kept(parts: str = "", **more: Any) -> KeptRequest:
    asked = ask(max_tokens=100, **more).model_dump(by_alias=True, exclude_none=True)
    return KeptRequest.model_validate(asked | {"parts": parts})


def as_json(schema: dict[str, Any] = SCHEMA, *, strict: bool = True, **more: Any) -> KeptRequest:
    wanted = {"type": "json_schema", "name": "river", "schema": schema, "strict": strict}
    return kept(response_format=wanted, **more)


@pytest.fixture
def formed(stub: Stub) -> Stub:
    """Its answer is JSON, as it is asked for."""
    stub.first, stub.length, stub.pause_s = FORM, 5, 0.005
    return stub


def form_of(stub: Stub) -> Any:
    """What the last call says of the form."""
    body = stub.bodies[-1]
    match stub.dialect:
        case "vllm":
            form = body["structured_outputs"]
            return form.get("json") or json.loads(form["structural_tag"])
        case "sglang":
            params = body["sampling_params"]
            return json.loads(params.get("json_schema") or params["structural_tag"])
        case _:
            return body.get("json_schema") or body["grammar"]


def test_the_engine_is_told_the_schema(formed: Stub, running: Running) -> None:
    ids, text = running.whole("whole", as_json())
    assert (ids, json.loads(text)) == (ANSWER, {"river": "Rhine", "km": 1233})
    assert form_of(formed) == SCHEMA


def test_the_engine_is_told_how_a_call_is_written(formed: Stub, running: Running) -> None:
    formed.first = CALL
    _, text = running.whole("called", kept("hermes", **MUST))
    assert "".join(text.split()) == "".join(CALLED).replace(" ", "")
    form = form_of(formed)
    if formed.dialect == "llamacpp":
        assert form.splitlines()[1] == r'call ::= "<tool_call>\n" call-root "\n</tool_call>"'
        return
    (tag,) = form["format"]["tags"]
    assert (tag["begin"], tag["end"]) == ("<tool_call>\n", "\n</tool_call>")
    names = [one["properties"]["name"] for one in tag["content"]["json_schema"]["anyOf"]]
    assert names == [{"const": "look"}, {"const": "sum"}]


@pytest.mark.rule("P5.8")
@pytest.mark.parametrize("window", [1, 2, 5, 6])
def test_p5_no_window_closes_the_call_or_is_exceeded(
    formed: Stub, running: Running, window: int
) -> None:
    before = len(formed.bodies)
    assert running.windowed("windowed", as_json(logprobs=1), window)[0] == ANSWER
    assert len(formed.bodies) - before == 1
    scored = [one for piece in running.sink.of("windowed") for one in piece.scored]
    assert tuple(one.chosen.token_id for one in scored) == ANSWER


@pytest.mark.rule("P15.24")
@pytest.mark.parametrize("at", range(1, 7))
def test_p15_an_answer_that_is_repeated_goes_on_behind_its_log(
    formed: Stub, running: Running, at: int
) -> None:
    _, text = running.whole("whole", as_json())
    formed.bodies.clear()
    ids, rest = running.whole("continued", as_json(), log=ANSWER[:at], text="")
    assert (ids, rest) == (ANSWER[at:], text)
    if at < len(ANSWER):
        (body,) = formed.bodies
        assert not set(ANSWER) & set(body.get("prompt") or body["input_ids"])


@pytest.mark.rule("P15.24")
@pytest.mark.parametrize("log", [(FORM, FORM + 2), ANSWER[:5], (*ANSWER[:5], FORM)])
def test_p15_an_answer_that_is_not_repeated_fails_and_says_why(
    formed: Stub, running: Running, log: tuple[int, ...]
) -> None:
    """Another token, an end before the log's, and no end where the log has none."""
    formed.length = 3
    running.submit("changed", as_json(), log=log)
    piece = running.sink.until_end("changed")
    assert (piece.finish_reason, running.sink.ids("changed")) == ("error", ())
    assert "interrupted" in (piece.error or "")
    assert "response_format" in (piece.error or "")


@pytest.mark.parametrize("broken", ["cut", "hang"])
def test_p15_an_engine_that_fails_within_it_hands_it_back(
    formed: Stub, running: Running, broken: str
) -> None:
    formed.broken = [broken]
    running.submit("unlucky", as_json())
    assert running.sink.until_given_up("unlucky").given_up
    log, text = running.sink.ids("unlucky"), running.sink.text("unlucky")
    assert log == ANSWER[: len(log)]
    ids, rest = running.whole("continued", as_json(), log=log, text=text)
    assert (log + ids, json.loads(text + rest)) == (ANSWER, {"river": "Rhine", "km": 1233})


@pytest.mark.rule("H18")
def test_an_answer_that_the_engine_did_not_keep_to_its_form_is_not_called_complete(
    formed: Stub, running: Running
) -> None:
    formed.length = 3
    running.submit("broken", as_json())
    piece = running.sink.until_end("broken")
    assert piece.finish_reason == "error"
    assert running.engine._dialect.title in (piece.error or "")
    assert "it is not JSON" in (piece.error or "")


def test_a_limit_cuts_it_off_and_says_so(formed: Stub, running: Running) -> None:
    request = as_json().model_copy(update={"max_tokens": 3})
    running.whole("short", request)
    assert running.sink.of("short")[-1].finish_reason == "length"


def test_a_form_that_the_engine_refuses_is_the_callers_error(
    formed: Stub, running: Running
) -> None:
    formed.broken = ["400"]
    running.submit("refused", as_json())
    piece = running.sink.until_end("refused")
    assert piece.finish_reason == "invalid_schema"
    title = running.engine._dialect.title
    assert (piece.error or "").startswith(f"response_format: {title} refuses this request: ")


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
@pytest.mark.rule("H18")
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
    call = Calls("<a>", {}, '"', "; ", 3)
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
