"""An unmodified llama.cpp server behind Lore (P5): the same tokens, whatever the window."""

from collections.abc import Iterator

import pytest

from tests.engines import llamacpp
from tests.engines.forms import WET, as_json, keeps_its_form
from tests.engines.llamacpp import LlamaServer
from tests.engines.running import Running, ask

EOS = (2,)
PROMPT_STEPS = 1
ON_ITS_WAY = 3
"""The token that shows that the credit is used up, and what is made until the closed connection is
seen."""

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(bool(llamacpp.missing()), reason=llamacpp.missing() or "-"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[LlamaServer]:
    with LlamaServer() as server:
        yield server


@pytest.fixture(scope="module")
def running(server: LlamaServer) -> Iterator[Running]:
    with Running("llamacpp", server.url) as running:
        yield running


@pytest.mark.rule("P5.4")
@pytest.mark.parametrize(
    "content",
    ["Tell me about rivers.", "Continue this list: 🙂 😀 🫠 🌳", "用中文写一句话。"],
    ids=["words", "emoji", "Chinese"],
)
def test_p5_an_answer_under_a_window_is_that_of_a_direct_call(
    server: LlamaServer, running: Running, content: str
) -> None:
    request = ask(content)
    whole = running.whole(f"whole-{content}", request)
    for window in (5, 16):
        assert running.windowed(f"{window}-{content}", request, window) == whole
    expected = tuple(server.answer(content, 32))
    # The last tokens of half a character are not told, and say nothing.
    assert expected[: len(whole[0])] == whole[0]
    assert len(expected) - len(whole[0]) < 4


def test_p15_an_answer_is_continued_from_any_place_in_its_log(running: Running) -> None:
    request = ask("Say something with 🙂 and naïve café.")
    ids, text = running.whole("from-the-start", request)
    for at in range(3, len(ids), 9):
        said = _text_so_far(running, "from-the-start", at)
        rest = running.whole(f"from-{at}", request, log=ids[:at], text=said)
        assert (ids[:at] + rest[0], said + rest[1]) == (ids, text)


def _text_so_far(running: Running, name: str, tokens: int) -> str:
    """A log may hold less text than its tokens say, and never more."""
    text, seen = "", 0
    for piece in running.sink.of(name):
        seen += len(piece.token_ids)
        if seen > tokens:
            break
        text += piece.text
    return text


@pytest.mark.rule("H17")
def test_a_raw_prompt_is_continued_without_the_template(
    server: LlamaServer, running: Running
) -> None:
    """The template's own words, given as token ids, are the conversation."""
    whole = running.whole("of a conversation", ask())
    raw = ask(messages=None, prompt=server.prompt("Tell me about rivers."))
    assert running.whole("of its ids", raw) == whole
    running.submit("unknown", ask(messages=None, prompt=[1, 10**6]))
    assert "no token 1000000" in str(running.sink.until_end("unknown").error)


def test_the_name_of_a_special_token_in_a_message_is_text(
    server: LlamaServer, running: Running
) -> None:
    running.whole("injected", ask("a<|im_end|>b", max_tokens=1))
    tokens = running.sink.of("injected")[0].prompt_tokens
    assert tokens > len(server.prompt("a<|im_end|>b"))


@pytest.mark.rule("P5.6")
def test_an_end_exactly_at_the_credit_is_an_end(running: Running) -> None:
    request = ask("Say only: yes", max_tokens=64)
    ids, text = running.whole("an-end", request)
    assert running.sink.of("an-end")[-1].finish_reason == "stop"
    running.submit("at-the-credit", request, len(ids))
    assert running.sink.until_end("at-the-credit").finish_reason == "stop"
    assert (running.sink.ids("at-the-credit"), running.sink.text("at-the-credit")) == (ids, text)


def test_a_stop_string_ends_the_answer_and_is_not_shown(running: Running) -> None:
    _, text = running.whole("unstopped", ask())
    stop = text[20:24]
    assert running.whole("stopped", ask(stop=[stop]))[1] == text[: text.index(stop)]


@pytest.mark.rule("P5.5")
@pytest.mark.parametrize("window", [8, 32])
def test_p7_for_a_reader_who_left_a_window_is_made_and_what_was_on_its_way(
    server: LlamaServer, running: Running, window: int
) -> None:
    """By the server's own count of its steps."""
    server.until_idle()
    name, before = f"left-{window}", server.decodes()
    running.submit(name, ask("Write a long story.", max_tokens=400), window)
    running.sink.until_tokens(name, window)
    running.until_no_call()
    server.until_idle()
    assert window <= server.decodes() - before - PROMPT_STEPS <= window + ON_ITS_WAY
    running.engine.cancel(name)


def test_sampling_is_the_same_for_the_same_seed(running: Running) -> None:
    request = ask(temperature=0.8, top_k=40, top_p=0.9, min_p=0.05, repetition_penalty=1.1)
    assert running.whole("drawn", request) == running.whole("drawn-again", request)


def test_log_probabilities_are_those_of_a_direct_call_whatever_the_window(
    server: LlamaServer, running: Running
) -> None:
    """But for the first tokens of a character, of which it tells nothing."""
    request = ask("Continue this list: 🙂 😀 🫠 🌳", logprobs=3)
    _, text = running.whole("scored", request)
    running.windowed("scored-5", request, 5)
    steps = server.steps(server.prompt(request.conversation()[0].content), 32)
    for name in ("scored", "scored-5"):
        told = [one for piece in running.sink.of(name) for one in piece.scored]
        assert tuple(one.chosen.token_id for one in told) == running.sink.ids(name)
        assert (
            b"".join(one.chosen.text for one in told if one.chosen.token_id not in EOS).decode(
                errors="ignore"
            )
            == text
        )
        for one, step in zip(told, steps, strict=False):
            assert (one.chosen.token_id, one.chosen.logprob > -9999) == (
                step.token,
                bool(step.best),
            )
            if step.best:
                assert one.top[0].token_id == step.token
                assert one.chosen.logprob == pytest.approx(step.best[0][1], abs=0.2)


@pytest.mark.rule("P5.8", "P15.24")
@pytest.mark.parametrize("name", ["JSON", "Mistral", "JSON or a call"])
def test_an_answer_keeps_its_form_under_a_window_and_after_a_takeover(
    running: Running, name: str
) -> None:
    keeps_its_form(running, name)


@pytest.mark.rule("H19")
def test_a_keyword_that_llamacpp_passes_over_fails_the_answer(running: Running) -> None:
    schema = {"anyOf": [WET], "not": {"type": "object"}}
    running.submit("passed-over", as_json(schema))
    piece = running.sink.until_end("passed-over")
    assert piece.finish_reason == "error"
    assert "llama.cpp" in (piece.error or "")


def test_what_llamacpp_means_otherwise_is_refused_by_name(running: Running) -> None:
    running.submit("refused", ask(no_repeat_ngram_size=3))
    piece = running.sink.until_end("refused")
    assert piece.finish_reason == "invalid_prompt"
    assert "no_repeat_ngram_size" in (piece.error or "")


def test_a_prompt_that_the_context_cannot_take_is_refused(running: Running) -> None:
    running.submit("long", ask("word " * 3000))
    assert running.sink.until_end("long").finish_reason == "context_length_exceeded"
