"""Log probabilities from an engine over HTTP, as the log keeps them."""

import pytest
from llguidance.hf import from_tokenizer

from lore.protocol.logprobs import Likely, Scored
from lore_generator.engines.remote.dialects.llamacpp import LlamaCpp
from lore_generator.engines.remote.scores import scored
from lore_generator.engines.remote.token_bytes import bytes_of
from lore_generator.engines.remote.trouble import Trouble
from lore_generator.engines.remote.words import EngineWords
from tests.engines.running import Running, ask
from tests.engines.stub import EOS, WHOLE, Stub
from tests.engines.stub_events import scores, word
from tests.services.tokenizers_of_both_kinds import KINDS


def _expected(stub: Stub, token: int, most: int) -> Scored:
    def text(one: int) -> str:
        if one == EOS:
            return "<end>"
        return word(one) if stub.dialect == "llamacpp" else f"w{one}"

    told = [Likely(one, text(one).encode(), value) for one, value in scores(token, most).items()]
    return Scored(told[0], tuple(told[:most]))


@pytest.mark.parametrize("most", [0, 1, 5])
def test_each_token_has_its_log_probability_and_the_likeliest_ones(
    stub: Stub, running: Running, most: int
) -> None:
    """Whatever else the engine tells, under a window as without one."""
    request = ask(max_tokens=200, logprobs=most)
    running.whole("whole", request)
    running.windowed("windowed", request, 7)
    for name in ("whole", "windowed"):
        told = [one for piece in running.sink.of(name) for one in piece.scored]
        assert running.sink.ids(name) == WHOLE
        assert told == [_expected(stub, token, most) for token in WHOLE]


def test_nothing_is_scored_that_nobody_asks_for(running: Running) -> None:
    running.whole("bare", ask(max_tokens=200))
    assert not any(piece.scored for piece in running.sink.of("bare"))


def test_an_engine_that_tells_none_is_not_believed(stub: Stub, running: Running) -> None:
    """llama.cpp tells none of the first tokens of a character; they have no number then."""
    stub.with_logprobs = False
    running.submit("untold", ask(logprobs=2))
    if stub.dialect == "llamacpp":
        running.sink.until_end("untold")
        piece = next(piece for piece in running.sink.of("untold") if piece.scored)
        assert piece.scored[0].chosen.logprob == -9999.0
    else:
        given_up = running.sink.until_given_up("untold").given_up
        assert given_up is not None
        assert "no log probabilities" in given_up.reason


async def test_the_last_token_of_a_character_has_its_bytes_and_the_others_no_number() -> None:
    """An answer of llama.cpp (b11669)."""

    async def engine(_: str, path: str, body: dict[str, list[int]]) -> dict[str, str]:
        assert path == "/detokenize"
        return {"content": "\N{REPLACEMENT CHARACTER}"}

    told = [
        {"id": 81, "token": "a", "bytes": [97], "logprob": -8.5, "top_logprobs": []},
        {"id": 250, "token": "🫠", "bytes": [*"🫠".encode()], "logprob": -2.25, "top_logprobs": []},
    ]
    answer = {"tokens": [81, 10813, 171, 250], "stop_type": "limit"}
    said = LlamaCpp().read_whole(answer | {"completion_probabilities": told}, 4)
    found = await scored(said, 0, EngineWords(engine, {}), whole=False)
    assert [one.chosen for one in found] == [
        Likely(81, b"a", -8.5),
        Likely(10813, b"", -9999.0),
        Likely(171, b"", -9999.0),
        Likely(250, "🫠".encode(), -2.25),
    ]
    other = said._replace(ids=[81, 7])
    with pytest.raises(Trouble, match="of other tokens"):
        await scored(other, 0, EngineWords(engine, {}), whole=False)


@pytest.mark.parametrize("kind", KINDS)
def test_a_token_stands_for_the_bytes_that_the_grammar_library_reads(kind: str) -> None:
    """Lore's own engine takes them from there."""
    tokenizer = KINDS[kind]()
    theirs = from_tokenizer(tokenizer, len(tokenizer), [0])
    backend = tokenizer.backend_tokenizer
    for token in range(len(tokenizer)):
        ours = bytes_of(backend, token)
        # It writes this byte, which no text has, in front of special tokens.
        assert ours == theirs.decode_bytes([token]).removeprefix(b"\xff") or ours == b"\xff"
