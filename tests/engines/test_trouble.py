"""An engine over HTTP that dies, hangs or lies, and what becomes of its requests (P15)."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from tokenizers import Tokenizer, models, pre_tokenizers

from tests.engines.running import Running, ask
from tests.engines.stub import EOS, FIRST, Stub

QUICK: dict[str, object] = {"answer_s": 0.5, "step_s": 1.0}
DIALECTS = ("llamacpp", "vllm", "sglang")
WHOLE = (*range(FIRST, FIRST + 40), EOS)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of the stub's vocabulary, for the dialects that have none of their own."""
    folder = tmp_path_factory.mktemp("stub-model")
    names = ["<unk>", *(f"w{number}" for number in range(1, 1000))]
    names[EOS] = "<end>"
    made = Tokenizer(
        models.WordLevel({name: number for number, name in enumerate(names)}, unk_token="<unk>")
    )
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.add_special_tokens(["<end>"])
    made.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"eos_token": "<end>"}')
    return str(folder)


@pytest.fixture(params=DIALECTS)
def stub(request: pytest.FixtureRequest) -> Iterator[Stub]:
    with Stub(request.param) as stub:
        yield stub


@pytest.fixture
def options(stub: Stub, tokenizer: str) -> dict[str, object]:
    return QUICK | ({} if stub.dialect == "llamacpp" else {"tokenizer": tokenizer})


@pytest.fixture
def running(stub: Stub, options: dict[str, object]) -> Iterator[Running]:
    with Running(stub.dialect, stub.url, **options) as running:
        yield running


LONG = ask(max_tokens=200)


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


@pytest.mark.parametrize("sick", ["500", "404", "garbage", "hang"])
def test_an_engine_that_is_none_is_named_in_one_line_and_waited_for(
    stub: Stub, running: Running, sick: str
) -> None:
    stub.sick = sick
    running.until_trouble(stub.url)
    assert "\n" not in running.engine.trouble()
    stub.sick = ""
    running.until_trouble("")


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
        fleet = two.engine._fleet
        assert fleet is not None
        other.until(lambda: fleet.servers[1].is_up)
        stub.kill()
        assert two.whole("elsewhere", LONG)[0] == WHOLE
        assert len(other.bodies) >= 1


CASES = {
    "another kind": ("sick", "garbage", {}, ""),
    "another model": ("model", "another", {"model": "stub"}, "it serves another, and not stub"),
    "a shorter context": (
        *("context_tokens", 100, {"context_tokens": 200}),
        "its context is 100 tokens, and LORE_CONTEXT_TOKENS is 200",
    ),
    "no ids": ("with_ids", False, {}, "no token ids"),
    "a wrong key": ("key", "secret", {}, "it refuses the key (LORE_ENGINE_KEY_FILE): HTTP 401"),
    "none of its calls": ("sick", "404", {}, "server: HTTP 404"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_wrong_engine_is_refused_at_the_start_and_taken_once_it_is_right(
    stub: Stub, options: dict[str, object], case: str
) -> None:
    attribute, value, more, said = CASES[case]
    right = getattr(stub, attribute)
    setattr(stub, attribute, value)
    running = Running(stub.dialect, stub.url, **(options | more))
    running.start_in_thread()
    try:
        running.until_trouble(said or stub.url)
        assert "\n" not in running.engine.trouble()
        setattr(stub, attribute, 4096 if attribute == "context_tokens" else right)
        running.until_started()
        assert running.whole("at-last", LONG)[0] == WHOLE
    finally:
        running.engine.stop()


def test_a_certificate_is_judged_by_the_authorities_that_are_named(tmp_path: Path) -> None:
    """And an address without TLS by none."""
    authority, tls = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    with Stub("llamacpp", tls) as stub:
        with Running("llamacpp", stub.url, ca_file=file, **QUICK) as running:
            assert running.whole("trusted", LONG)[0] == WHOLE
        plain = stub.url.replace("https", "http")
        for url, said in ((stub.url, "LORE_ENGINE_CA_FILE"), (plain, "does it speak TLS?")):
            running = Running("llamacpp", url, **QUICK)
            running.start_in_thread()
            try:
                running.until_trouble(said)
                assert "\n" not in running.engine.trouble()
            finally:
                running.engine.stop()


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


def test_a_key_is_read_from_a_file(stub: Stub, options: dict[str, object], tmp_path: Path) -> None:
    stub.key, file = "secret", tmp_path / "key"
    file.write_text("secret\n")
    with Running(stub.dialect, stub.url, key_file=file, **options) as running:
        assert running.whole("let-in", LONG)[0] == WHOLE


def test_a_key_file_that_is_not_there_is_one_clear_line(stub: Stub, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"LORE_ENGINE_KEY_FILE: cannot read .*: No such file"):
        Running(stub.dialect, stub.url, key_file=tmp_path / "none")
