"""An unmodified vLLM server behind Lore (P5), when asked for: ``make test-engines``."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.engines import vllm
from tests.engines.exact import Judge, cases_of, taken_over
from tests.engines.forms import REAL, keeps_its_form
from tests.engines.running import Running, ask
from tests.engines.vllm import CONTEXT_TOKENS, VllmServer

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(bool(vllm.missing()), reason=vllm.missing() or "-"),
    pytest.mark.timeout(900),
]
TOKENS = 24
ON_ITS_WAY = 4
"""Tokens that are made until a closed connection is seen."""


@pytest.fixture(scope="module")
def server() -> Iterator[VllmServer]:
    with VllmServer() as server:
        yield server


@pytest.fixture(scope="module")
def running(server: VllmServer) -> Iterator[Running]:
    with Running("vllm", server.url) as running:
        yield running


def test_it_says_what_it_serves(server: VllmServer, running: Running) -> None:
    assert (running.info.model, running.info.context_tokens) == (server.model, CONTEXT_TOKENS)
    assert running.info.tokenizer.endswith("tokenizer.json")


@pytest.mark.parametrize("number", range(3))
def test_p5_p15_no_window_and_no_takeover_changes_an_answer(
    server: VllmServer, running: Running, number: int
) -> None:
    judge = Judge(server, TOKENS)
    for case in cases_of(number, TOKENS, seed=16):
        judge.judge(case, taken_over(running, ask(case.content, max_tokens=TOKENS), case))
    assert judge.outcomes.keys() <= {"equal", "differs within the noise"}
    assert judge.outcomes["equal"]


def test_p5_a_reader_who_keeps_up_costs_one_call(server: VllmServer, running: Running) -> None:
    server.until_idle()
    before = server.calls()
    running.submit("kept-up", ask(max_tokens=TOKENS), 16)
    for tokens in range(4, TOKENS, 4):
        running.sink.until_tokens("kept-up", tokens)
        running.engine.grant("kept-up", tokens + 16)
    running.sink.until_end("kept-up")
    assert len(running.sink.ids("kept-up")) == TOKENS
    server.until_idle()
    assert server.calls() - before == 1


def test_p7_for_a_reader_who_left_a_window_is_made_and_what_was_on_its_way(
    server: VllmServer, running: Running
) -> None:
    """By the server's own count."""
    server.until_idle()
    before = server.made()
    running.submit("left", ask("Write a long story.", max_tokens=400), 16)
    running.sink.until_tokens("left", 16)
    running.until_no_call()
    server.until_idle()
    assert 16 <= server.made() - before <= 16 + ON_ITS_WAY
    running.engine.cancel("left")


def test_p14_a_request_that_is_dropped_frees_the_engine(
    server: VllmServer, running: Running
) -> None:
    server.until_idle()
    before = server.made()
    running.submit("dropped", ask("Write a long story.", max_tokens=1500))
    running.sink.until_tokens("dropped", 2)
    running.engine.cancel("dropped")
    server.until_idle()
    assert server.made() - before < 100


def test_the_text_is_that_of_a_direct_call(server: VllmServer, running: Running) -> None:
    content = "Say hello 🙂 in French."
    _, text = running.whole("text", ask(content, max_tokens=TOKENS))
    body: dict[str, Any] = {"messages": [{"role": "user", "content": content}], "temperature": 0}
    direct = server.post("/v1/chat/completions", model=server.model, max_tokens=TOKENS, **body)
    assert text == direct["choices"][0]["message"]["content"]


def test_a_stop_string_ends_the_answer_and_is_not_shown(running: Running) -> None:
    _, text = running.whole("unstopped", ask(max_tokens=TOKENS))
    stop = text[20:24]
    assert running.whole("stopped", ask(stop=[stop]))[1] == text[: text.index(stop)]


def test_sampling_is_the_same_for_the_same_seed(running: Running) -> None:
    request = ask(temperature=0.8, top_k=40, top_p=0.9, repetition_penalty=1.1, max_tokens=TOKENS)
    assert running.whole("drawn", request) == running.whole("drawn-again", request)


def test_log_probabilities_are_those_of_a_direct_call_whatever_the_window(
    server: VllmServer, running: Running
) -> None:
    request = ask("Say something with 🙂 and naïve café.", logprobs=3, max_tokens=TOKENS)
    _, text = running.whole("scored", request)
    running.windowed("scored-5", request, 5)
    steps = server.steps(server.prompt("Say something with 🙂 and naïve café."), TOKENS)
    for name in ("scored", "scored-5"):
        told = [one for piece in running.sink.of(name) for one in piece.scored]
        assert tuple(one.chosen.token_id for one in told) == running.sink.ids(name)
        said = b"".join(one.chosen.text for one in told).decode(errors="ignore")
        assert said.removesuffix("<|im_end|>") == text
        for one, step in zip(told, steps, strict=False):
            assert one.chosen == one.top[0]
            best = [(other.token_id, pytest.approx(other.logprob, abs=0.01)) for other in one.top]
            assert list(step.best[:3]) == best


@pytest.mark.parametrize("name", REAL)
def test_an_answer_keeps_its_form_under_a_window_and_after_a_takeover(
    running: Running, name: str
) -> None:
    keeps_its_form(running, name)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"no_repeat_ngram_size": 3}, "no_repeat_ngram_size"),
        ({"min_p": 0.1, "top_p": 0.9, "temperature": 0.5}, "min_p together with top_p"),
    ],
)
def test_what_vllm_means_otherwise_is_refused_by_name(
    running: Running, more: dict[str, Any], said: str
) -> None:
    running.submit(f"refused-{said}", ask(**more))
    piece = running.sink.until_end(f"refused-{said}")
    assert piece.finish_reason == "invalid_prompt"
    assert said in (piece.error or "")


def test_a_prompt_that_the_context_cannot_take_is_refused(running: Running) -> None:
    running.submit("long", ask("word " * 3000))
    assert running.sink.until_end("long").finish_reason == "context_length_exceeded"


def test_a_wrong_name_of_the_model_is_one_line_and_not_ready(server: VllmServer) -> None:
    running = Running("vllm", server.url, model="another")
    running.start_in_thread()
    try:
        running.until_trouble(f"it serves {server.model}, and not another")
    finally:
        running.engine.stop()


def test_p15_an_engine_that_is_killed_and_comes_back_goes_on_with_the_answer(
    server: VllmServer, running: Running
) -> None:
    """The last one here: the server is another process afterwards."""
    request = ask("Tell me about rivers.", max_tokens=TOKENS)
    whole = running.whole("whole", request)
    running.submit("killed", request)
    running.sink.until_tokens("killed", 4)
    server.kill()
    given_up = running.sink.until_given_up("killed").given_up
    assert given_up is not None
    log, text = running.sink.ids("killed"), running.sink.text("killed")
    assert log == whole[0][: len(log)]
    running.until_trouble("nobody answers there")
    server.start()
    server.until_up()
    running.until_trouble("")
    rest = running.whole("continued", request, log=log, text=text)
    assert (log + rest[0], text + rest[1]) == whole
