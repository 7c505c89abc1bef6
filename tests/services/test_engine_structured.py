"""Structured answers of the real small model: valid, and equal however often they are cut."""

import json
from collections.abc import Iterator

import jsonschema
import pytest
import torch

from lore.parts.formats import read
from lore.parts.parser import Parser
from lore.request import KeptRequest
from lore_generator.engine import Job
from lore_generator.engines import transformers_engine
from lore_generator.engines.automata import Automata, BadGrammar
from lore_generator.engines.options import TransformersOptions
from lore_generator.engines.transformers_engine import TransformersEngine
from tests.services.engine_sink import Collector
from tests.services.schemas import SHORT, obj

pytestmark = pytest.mark.model

PERSON = obj(name=SHORT, age={"type": "integer", "minimum": 0, "maximum": 130})
GREEDY = {"temperature": 0, "repetition_penalty": 1.0, "max_tokens": 80}
FORMAT = {"type": "json_schema", "name": "person", "schema": PERSON, "strict": True}
TOOLS = [{"name": "weather", "parameters": obj(city=SHORT), "strict": True}]


def ask(question: str = "Who is Ada?", **given: object) -> KeptRequest:
    return KeptRequest.model_validate({"question": question, **GREEDY, **given}, strict=False)


class Running:
    def __init__(self) -> None:
        self.sink = Collector()
        self.engine = TransformersEngine(
            TransformersOptions(threads=2, kv_tokens=4096, context_tokens=512)
        )
        self.engine.start(self.sink)
        self._count = 0

    def submit(
        self,
        request: KeptRequest,
        limit: int | None = None,
        ids: tuple[int, ...] = (),
        text: str = "",
    ) -> str:
        self._count += 1
        name = f"r{self._count}"
        self.engine.submit(Job(name, request, ids, text), limit)
        return name


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    torch.set_num_threads(2)
    running = Running()
    yield running
    assert running.engine.alive()
    running.engine.stop()


@pytest.mark.rule("H14")
def test_an_answer_that_is_cut_at_every_token_is_the_one_that_was_not_cut(
    running: Running,
) -> None:
    sink, request = running.sink, ask(response_format=FORMAT)
    whole = running.submit(request)
    assert sink.until_end(whole).finish_reason == "stop"
    ids, text = sink.ids(whole), sink.text(whole)
    jsonschema.validate(json.loads(text), PERSON)
    said = ""
    cut: dict[str, tuple[int, str]] = {}
    for at, piece in enumerate(piece for piece in sink.of(whole) if piece.token_ids):
        # With one token for now: what the next owner decodes first.
        cut[running.submit(request, at + 1, ids[:at], said)] = at, said
        said += piece.text
    for name, (at, before) in cut.items():
        sink.until_tokens(name, 1)
        assert sink.ids(name) == ids[at : at + 1]
        if at % 10 == 0:
            running.engine.grant(name, None)
            sink.until_end(name)
            assert (sink.ids(name), before + sink.text(name)) == (ids[at:], text)
        running.engine.cancel(name)


def test_a_parked_answer_goes_on_within_its_format(running: Running) -> None:
    sink, request = running.sink, ask(response_format=FORMAT)
    whole, parked = running.submit(request), running.submit(request, 1)
    sink.until_end(whole)
    for limit in range(2, len(sink.ids(whole)) + 1, 3):
        running.engine.grant(parked, limit)
        sink.until_tokens(parked, limit)
    running.engine.grant(parked, None)
    sink.until_end(parked)
    assert (sink.ids(parked), sink.text(parked)) == (sink.ids(whole), sink.text(whole))


def test_a_call_that_is_required_is_made_beside_answers_that_are_free(running: Running) -> None:
    sink = running.sink
    free = running.submit(ask(max_tokens=8))
    alone = running.submit(ask(max_tokens=8))
    called = running.submit(ask("Weather in Rome?", tools=TOOLS, tool_choice={"name": "weather"}))
    assert sink.until_end(called).finish_reason == "stop"
    parser = Parser(read("hermes"), frozenset({"weather"}))
    parser.feed(sink.text(called))
    parser.finish()
    assert parser.calls == parser.complete_calls == 1
    sink.until_end(free)
    sink.until_end(alone)
    assert sink.ids(free) == sink.ids(alone)


def test_an_answer_that_its_length_cuts_is_a_valid_beginning(running: Running) -> None:
    name = running.submit(ask(response_format=FORMAT, max_tokens=6))
    assert running.sink.until_end(name).finish_reason == "length"
    assert running.sink.text(name).startswith("{")


def test_a_schema_that_is_not_supported_is_refused(running: Running) -> None:
    schema = obj(a={"type": "strng"})
    name = running.submit(ask(response_format={**FORMAT, "schema": schema}))
    refused = running.sink.until_end(name)
    assert refused.finish_reason == "invalid_schema"
    assert "'#/properties/a'" in str(refused.error)


@pytest.mark.rule("H16")
def test_log_probabilities_come_with_each_token_and_again_after_a_takeover(
    running: Running,
) -> None:
    sink, request = running.sink, ask(response_format=FORMAT, logprobs=3)
    whole = running.submit(request)
    sink.until_end(whole)
    ids, scored = sink.ids(whole), [one for piece in sink.of(whole) for one in piece.scored]
    assert [one.chosen.token_id for one in scored] == list(ids)
    said = b"".join(one.chosen.text for one in scored[:-1]).decode()
    assert said == sink.text(whole)
    assert all(len(one.top) == 3 and one.top[0].logprob <= 0 for one in scored)
    assert any(one.chosen != one.top[0] for one in scored), "the form changed no token"
    before = "".join(piece.text for piece in sink.of(whole)[:6])
    done = sum(len(piece.token_ids) for piece in sink.of(whole)[:6])
    resumed = running.submit(request, None, ids[:done], before)
    sink.until_end(resumed)
    again = [one for piece in sink.of(resumed) for one in piece.scored]
    assert len(again) == len(ids) - done
    for one, other in zip(scored[done:], again, strict=True):
        assert one.chosen.token_id == other.chosen.token_id
        assert one.chosen.logprob == pytest.approx(other.chosen.logprob, abs=1e-3)
    plain = running.submit(ask(max_tokens=2))
    sink.until_end(plain)
    assert not any(piece.scored for piece in sink.of(plain))


def test_a_log_outside_of_the_format_is_not_continued(running: Running) -> None:
    free = running.submit(ask(max_tokens=3))
    running.sink.until_end(free)
    ids, text = running.sink.ids(free), running.sink.text(free)
    name = running.submit(ask(response_format=FORMAT), None, ids, text)
    ended = running.sink.until_end(name)
    assert (ended.finish_reason, ended.token_ids) == ("error", ())
    assert "format" in str(ended.error)


def test_a_grammar_that_cannot_be_followed_fails_its_request_alone(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = running.sink
    free = running.submit(ask())
    sink.until_tokens(free, 1)
    monkeypatch.setattr(Automata, "_caught_up", _too_complex)
    failing = running.submit(ask(response_format=FORMAT))
    ended = sink.until_end(failing)
    assert (ended.finish_reason, ended.error) == ("error", transformers_engine.BAD_GRAMMAR)
    assert ended.token_ids == ()
    assert sink.until_end(free).finish_reason != "error"


def _too_complex(*_: object) -> None:
    raise BadGrammar("too complex")
