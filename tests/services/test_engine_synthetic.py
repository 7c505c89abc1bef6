"""The synthetic engine keeps the engine contract: known text, exact credit, no torch."""

import math
import subprocess
import sys
from collections.abc import Iterator

import pytest

from lore.messages import Message
from lore.request import StreamRequest
from lore_generator.engine import Job
from lore_generator.engines import create_engine
from lore_generator.engines.options import SyntheticOptions
from lore_generator.engines.synthetic import SyntheticEngine
from lore_generator.engines.synthetic_text import VOCABULARY, answer, synthetic_answer
from tests.services.engine_sink import Collector


@pytest.fixture
def sink() -> Collector:
    return Collector()


@pytest.fixture
def engine(sink: Collector) -> Iterator[SyntheticEngine]:
    made = SyntheticEngine(SyntheticOptions(rate_tokens_per_s=math.inf))
    made.start(sink)
    yield made
    made.stop()
    assert not made.alive()


def ask(question: str = "what is a loop?", **more: object) -> StreamRequest:
    return StreamRequest.model_validate({"question": question, **more})


def test_a_request_gets_exactly_the_known_text_and_tokens(
    engine: SyntheticEngine, sink: Collector
) -> None:
    engine.submit(Job("a", ask()), None)
    assert sink.until_end("a").finish_reason == "stop"
    assert sink.text("a") == "".join(synthetic_answer(ask()))
    spelled = b"".join(VOCABULARY[token] for token in sink.ids("a"))
    assert spelled.decode(errors="ignore") == sink.text("a")


def test_answers_depend_on_the_conversation_and_the_seed_alone() -> None:
    asked = StreamRequest(messages=[Message(role="user", content="what is a loop?")])
    assert synthetic_answer(ask()) == synthetic_answer(asked)
    assert synthetic_answer(ask(temperature=0.1)) == synthetic_answer(ask())
    assert synthetic_answer(ask(seed=1)) != synthetic_answer(ask(seed=2))
    assert synthetic_answer(ask("other")) != synthetic_answer(ask())


def test_answers_bite_on_text_handling() -> None:
    texts = [synthetic_answer(ask(f"q{n}")) for n in range(20)]
    everything = "".join("".join(text) for text in texts)
    assert all(sign in everything for sign in ("é", "—", "🎉", "👩‍💻", "```python\n", "<b>"))
    assert any("" in text for text in texts), "some token must hold half a character"


def test_max_tokens_ends_an_answer_with_length(engine: SyntheticEngine, sink: Collector) -> None:
    engine.submit(Job("a", ask(max_tokens=7)), None)
    assert sink.until_end("a").finish_reason == "length"
    assert len(sink.ids("a")) == 7
    assert "".join(synthetic_answer(ask())).startswith(sink.text("a"))


def test_a_set_length_is_kept() -> None:
    assert len(synthetic_answer(ask(), 500)) == 500
    assert len(synthetic_answer(ask(max_tokens=20), 500)) == 20


def test_a_stop_string_cuts_the_text_before_itself(
    engine: SyntheticEngine, sink: Collector
) -> None:
    whole = "".join(synthetic_answer(ask()))
    stop = whole[30:38]
    engine.submit(Job("a", ask(stop=stop)), None)
    assert sink.until_end("a").finish_reason == "stop"
    assert sink.text("a") == whole[: whole.index(stop)]


def test_credit_is_exact_and_a_grant_wakes_the_stream(
    engine: SyntheticEngine, sink: Collector
) -> None:
    """P5"""
    expected = answer(ask()).token_ids
    engine.submit(Job("parked", ask()), 5)
    engine.submit(Job("other", ask("other")), None)
    sink.until_end("other")
    assert sink.ids("parked") == expected[:5]
    assert engine.stats().parked == 1
    engine.grant("parked", 6)
    engine.submit(Job("later", ask("later")), None)
    sink.until_end("later")
    assert sink.ids("parked") == expected[:6]
    engine.grant("parked", None)
    sink.until_end("parked")
    assert sink.ids("parked") == expected


def test_a_grant_never_shrinks(engine: SyntheticEngine, sink: Collector) -> None:
    engine.submit(Job("a", ask()), 0)
    engine.grant("a", 9)
    engine.grant("a", 4)
    sink.until_tokens("a", 9)
    engine.submit(Job("b", ask()), None)
    sink.until_end("b")
    assert len(sink.ids("a")) == 9


def test_a_cancelled_stream_says_nothing_more(engine: SyntheticEngine, sink: Collector) -> None:
    engine.submit(Job("a", ask()), 5)
    sink.until_tokens("a", 5)
    engine.cancel("a")
    engine.grant("a", None)
    engine.submit(Job("b", ask()), None)
    sink.until_end("b")
    assert len(sink.ids("a")) == 5
    assert engine.stats().parked == engine.stats().running == 0


@pytest.mark.parametrize("done", [0, 1, 17, 41, 60, 1_000])
def test_a_job_continues_where_its_log_ends(
    engine: SyntheticEngine, sink: Collector, done: int
) -> None:
    """P15"""
    whole = answer(ask(stop=["never said"]))
    said = "".join(whole.texts[:done])
    engine.submit(Job("a", ask(stop=["never said"]), whole.token_ids[:done], said), None)
    assert sink.until_end("a").finish_reason == "stop"
    assert sink.ids("a") == whole.token_ids[done:]
    assert said + sink.text("a") == "".join(whole.texts)


def test_a_log_that_is_complete_needs_no_credit_to_end(
    engine: SyntheticEngine, sink: Collector
) -> None:
    whole = answer(ask())
    engine.submit(Job("a", ask(), whole.token_ids, "".join(whole.texts)), 0)
    assert sink.until_end("a").finish_reason == "stop"
    assert sink.ids("a") == ()


def test_a_log_of_another_model_is_refused(engine: SyntheticEngine, sink: Collector) -> None:
    engine.submit(Job("a", ask(), (0, 0, 0), " a a a"), None)
    ended = sink.until_end("a")
    assert ended.finish_reason == "error"
    assert ended.error


def test_a_prompt_beyond_the_context_is_refused(sink: Collector) -> None:
    engine = SyntheticEngine(SyntheticOptions(context_tokens=4))
    engine.start(sink)
    engine.submit(Job("a", ask("one two three four")), None)
    assert "maximum context length" in (sink.until_end("a").error or "")
    engine.stop()


def test_a_thousand_streams_move_in_few_sink_calls(sink: Collector) -> None:
    engine = SyntheticEngine(SyntheticOptions(rate_tokens_per_s=100, length_tokens=5))
    engine.start(sink)
    for n in range(1_000):
        engine.submit(Job(str(n), ask()), 0)
    for n in range(1_000):
        engine.grant(str(n), None)
    for n in range(1_000):
        sink.until_end(str(n))
    engine.stop()
    assert len(sink.pieces) == 5_000
    assert sink.calls < 500


def test_an_unknown_engine_is_named() -> None:
    with pytest.raises(ValueError, match="unknown engine 'magic'"):
        create_engine("magic")


def test_the_synthetic_engine_imports_no_torch() -> None:
    script = (
        "import sys; from lore_generator.engines import create_engine; create_engine('synthetic');"
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], timeout=60, check=False).returncode == 0


def test_what_is_held_waits_for_the_next_grant() -> None:
    """P7: also if its step is due already."""
    sink, engine = Collector(), SyntheticEngine(SyntheticOptions(rate_tokens_per_s=math.inf))
    engine.submit(Job("a", ask()), 8)
    engine.hold("a")
    engine.submit(Job("b", ask()), None)
    engine.start(sink)
    sink.until_end("b")
    assert sink.ids("a") == ()
    engine.grant("a", 8)
    sink.until_tokens("a", 8)
    engine.hold("unknown")
    engine.stop()
