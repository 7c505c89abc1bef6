"""An answer whose form an engine over HTTP keeps: one call, and what an interruption does to it."""

import json
from typing import Any

import pytest

from tests.engines.forms import MUST, SCHEMA, as_json, kept
from tests.engines.running import Running
from tests.engines.stub import EOS, Stub
from tests.engines.stub_events import CALL, CALLED, FORM

ANSWER = (*range(FORM, FORM + 5), EOS)


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
@pytest.mark.parametrize("broken", ["", "short"])
@pytest.mark.parametrize("log", [(FORM, FORM + 2), ANSWER[:5], (*ANSWER[:5], FORM)])
def test_p15_an_answer_that_is_not_repeated_fails_and_says_why(
    formed: Stub, running: Running, log: tuple[int, ...], broken: str
) -> None:
    """Another token, another end, and an end of the call before the log's."""
    formed.length, formed.broken = 3, [broken]
    running.submit("changed", as_json(), log=log)
    piece = running.sink.until_end("changed")
    assert (piece.finish_reason, running.sink.ids("changed")) == ("error", ())
    assert "interrupted" in (piece.error or "")
    assert "response_format" in (piece.error or "")


def test_a_call_that_is_made_again_tells_nothing_twice(formed: Stub, running: Running) -> None:
    formed.broken = ["busy"]
    assert running.windowed("busy", as_json(), 2)[0] == ANSWER
    assert not formed.broken


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


@pytest.mark.rule("H19")
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
