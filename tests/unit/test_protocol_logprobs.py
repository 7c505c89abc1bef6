"""Log probabilities go into a chunk's integers and come out as they were."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lore.protocol.logprobs import Likely, Scored, likely, pack, unpack
from lore.protocol.producer import CoalesceConfig, Producer
from lore.protocol.window import Window, WindowConfig

IDS = st.integers(0, 2**31)
LIKELY = st.builds(likely, IDS, st.binary(max_size=40), st.floats(max_value=0, allow_nan=False))
SCORED = st.builds(Scored, LIKELY, st.lists(LIKELY, max_size=5).map(tuple))


@pytest.mark.rule("H16", "H18")
@given(
    st.lists(IDS, max_size=6),
    st.lists(SCORED, max_size=6),
    st.none() | st.lists(IDS, max_size=6).map(tuple),
)
def test_what_is_packed_is_unpacked(
    ids: list[int], scored: list[Scored], prompt_ids: tuple[int, ...] | None
) -> None:
    packed = pack(ids, scored, prompt_ids)
    # A release that does not know them reads the ids of a log as integers.
    again = tuple(map(int, " ".join(map(str, packed)).split()))
    assert unpack(again) == (tuple(ids), tuple(scored), prompt_ids)
    assert unpack(ids) == (tuple(ids), (), None)


def test_a_token_that_cannot_be_drawn_has_a_finite_logprob() -> None:
    assert likely(1, b"", -math.inf).logprob == -9999.0


def test_half_a_character_is_told_by_its_bytes() -> None:
    half = "é".encode()[:1]
    told = Scored(Likely(1, half, -0.5), (Likely(2, b" a", -1.0),)).as_json()
    assert told == {
        "token": "\ufffd",
        "logprob": -0.5,
        "bytes": [0xC3],
        "top_logprobs": [{"token": " a", "logprob": -1.0, "bytes": [0x20, 0x61]}],
    }


def test_a_chunk_has_those_of_all_pieces_that_it_is_made_of() -> None:
    one, two, three = (Scored(likely(n, b"x", -n)) for n in (1, 2, 3))
    window = Window(WindowConfig.fixed(64), size=64)
    producer = Producer([], window, CoalesceConfig())
    producer.on_piece("", (1,), 0.0, (one,))
    producer.on_piece("ab", (2,), 0.0, (two,))
    due = producer.outbox(0.0)
    assert due is not None
    assert [chunk.scored for chunk in due.chunks] == [(one, two)]
    producer.on_appended(2, 0, 0.0)
    producer.on_piece("c", (3,), 1.0, (three,))
    due = producer.outbox(1.0)
    assert due is not None
    assert [chunk.scored for chunk in due.chunks] == [(three,)]


@pytest.mark.rule("H18")
@pytest.mark.parametrize("shows_ids", [True, False])
def test_the_first_chunk_has_the_ids_of_the_prompt_if_they_are_shown(shows_ids: bool) -> None:
    window = Window(WindowConfig.fixed(64), size=64)
    producer = Producer([], window, CoalesceConfig(), shows_ids=shows_ids)
    producer.on_prompt((7, 8))
    for at, text in enumerate("ab"):
        producer.on_piece(text, (at,), float(at))
        assert producer.outbox(float(at)) is not None
        producer.on_appended(at + 2, 0, float(at))
    told = [chunk.prompt_ids for chunk in producer.made]
    assert told == ([(7, 8), ()] if shows_ids else [None, None])
    later = Producer(producer.made, window, CoalesceConfig(), shows_ids=shows_ids)
    later.on_prompt((7, 8))
    later.on_piece("c", (3,), 9.0)
    assert later.take(9.0).chunks[-1].prompt_ids == (() if shows_ids else None)
