"""An engine over HTTP that dies, hangs or lies, and what becomes of its requests (P15)."""

import pytest

from tests.engines.running import LONG, QUICK, Running, ask
from tests.engines.stub import WHOLE, Stub


@pytest.mark.rule("P5.4", "P5.5")
def test_p5_no_window_changes_an_answer_or_is_exceeded(stub: Stub, running: Running) -> None:
    assert running.whole("whole", LONG)[0] == WHOLE
    for window in (1, 7, 40, 41):
        assert running.windowed(f"window-{window}", LONG, window)[0] == WHOLE


@pytest.mark.rule("P5.7")
def test_p5_a_reader_who_keeps_up_costs_one_call(stub: Stub, running: Running) -> None:
    stub.pause_s, before = 0.02, len(stub.bodies)
    running.submit("kept-up", LONG, 8)
    for tokens in range(4, 40, 4):
        running.sink.until_tokens("kept-up", tokens)
        running.engine.grant("kept-up", tokens + 8)
    running.sink.until_end("kept-up")
    assert running.sink.ids("kept-up") == WHOLE
    assert len(stub.bodies) - before == 1


@pytest.mark.rule("P14.1")
def test_p14_a_request_that_is_dropped_frees_the_engine(stub: Stub, running: Running) -> None:
    stub.pause_s = 0.05
    running.submit("dropped", LONG)
    running.sink.until_tokens("dropped", 2)
    running.engine.cancel("dropped")
    stub.until(lambda: stub.open == 0)
    assert stub.made < 40
    if stub.dialect == "sglang":
        stub.until(lambda: bool(stub.aborted))
        assert stub.aborted == [stub.bodies[-1]["rid"]]


@pytest.mark.rule("P7.3")
def test_p7_a_prompt_that_is_held_is_read_no_further(stub: Stub, running: Running) -> None:
    stub.prompt_s, before = 3600, len(stub.bodies)
    running.submit("unread", LONG, 200)
    stub.until(lambda: stub.open == 1)
    running.engine.hold("unread")
    stub.until(lambda: stub.open == 0)
    running.until_no_call()
    stub.prompt_s = 0
    running.engine.grant("unread", 200)
    running.sink.until_end("unread")
    assert running.sink.ids("unread") == WHOLE
    assert len(stub.bodies) - before == 2
    assert not any(piece.given_up for piece in running.sink.of("unread"))


def test_p7_what_has_begun_is_not_held(stub: Stub, running: Running) -> None:
    stub.pause_s = 0.01
    running.submit("begun", LONG, 200)
    running.sink.until_tokens("begun", 2)
    running.engine.hold("begun")
    running.sink.until_end("begun")
    assert running.sink.ids("begun") == WHOLE


@pytest.mark.parametrize(
    "broken", ["cut", "half a line", "garbage", "early end", "hang", "500", "502"]
)
def test_p15_an_engine_that_fails_hands_the_request_back_and_is_blamed(
    stub: Stub, running: Running, broken: str
) -> None:
    stub.broken = [broken]
    running.submit("unlucky", LONG)
    given_up = running.sink.until_given_up("unlucky").given_up
    assert given_up is not None
    assert given_up.failed
    made = running.sink.ids("unlucky")
    assert made == WHOLE[: len(made)]
    # Whoever takes it up continues behind what was said.
    text = running.sink.text("unlucky")
    assert made + running.whole("continued", LONG, log=made, text=text)[0] == WHOLE


@pytest.mark.parametrize("status", ["429", "503"])
def test_an_engine_that_is_busy_is_asked_again(stub: Stub, running: Running, status: str) -> None:
    stub.broken = [status, status]
    assert running.whole("patient", LONG)[0] == WHOLE


@pytest.mark.parametrize("status", ["400", "422"])
def test_what_the_engine_refuses_fails_with_its_reason(
    stub: Stub, running: Running, status: str
) -> None:
    stub.broken = [status]
    running.submit("refused", LONG)
    piece = running.sink.until_end("refused")
    assert piece.finish_reason == "error"
    assert f"told to say {status}" in (piece.error or "")


def test_p15_an_engine_that_is_away_is_waited_for_and_found_again(
    stub: Stub, running: Running
) -> None:
    stub.kill()
    running.until_trouble("nobody answers there")
    running.submit("homeless", LONG)
    given_up = running.sink.until_given_up("homeless").given_up
    assert given_up is not None
    assert not given_up.failed
    stub.start()
    running.until_trouble("")
    assert running.whole("at-home", LONG)[0] == WHOLE


@pytest.mark.rule("P15.8")
def test_p15_an_engine_that_hangs_gives_its_requests_up(stub: Stub, running: Running) -> None:
    stub.broken, stub.sick = ["hang"], "hang"
    running.submit("frozen", LONG)
    given_up = running.sink.until_given_up("frozen").given_up
    assert given_up is not None
    running.until_trouble("no answer")
    stub.sick = ""
    running.until_trouble("")


def test_an_engine_that_decodes_and_is_too_busy_to_say_what_it_serves_keeps_its_requests(
    tokenizer: str,
) -> None:
    with Stub("vllm") as stub, Running("vllm", stub.url, tokenizer=tokenizer, **QUICK) as running:
        stub.pause_s, stub.sick = 0.1, "hang"
        running.submit("busy", LONG)
        running.sink.until_end("busy")
        assert running.sink.ids("busy") == WHOLE
        running.until_trouble("no answer")  # once nothing comes from it


def test_p15_an_engine_with_another_model_than_before_takes_no_request(
    stub: Stub, running: Running
) -> None:
    stub.kill()
    stub.model = "another"
    stub.start()
    running.until_trouble("it serves another")
    stub.model = "stub"
    running.until_trouble("")
    stub.context_tokens = 128
    running.until_trouble("context 128")


def test_a_request_goes_on_at_another_server(
    stub: Stub, running: Running, options: dict[str, object]
) -> None:
    with Stub(stub.dialect) as other, Running(stub.dialect, stub.url, other.url, **options) as two:
        two.until_trouble("")
        pool = two.engine._pool
        assert pool is not None
        other.until(lambda: pool.servers[1].is_up)
        stub.kill()
        assert two.whole("elsewhere", LONG)[0] == WHOLE
        assert len(other.bodies) >= 1


def test_what_a_request_gives_the_template_takes_precedence() -> None:
    with (
        Stub("llamacpp") as stub,
        Running(
            "llamacpp", stub.url, template_args={"enable_thinking": True, "effort": "low"}
        ) as running,
    ):
        running.whole("asked", ask(template_args={"enable_thinking": False}))
        given = stub.asked["/apply-template"]["chat_template_kwargs"]
        assert given == {"enable_thinking": False, "effort": "low"}
