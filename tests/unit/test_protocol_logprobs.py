"""Log probabilities go into a chunk's integers and come out as they were."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lore.protocol.assembly import CoalesceConfig
from lore.protocol.logprobs import Likely, Scored, likely, pack, unpack
from lore.protocol.producer import Producer
from lore.protocol.window import Window, WindowConfig

IDS = st.integers(0, 2**31)
LIKELY = st.builds(likely, IDS, st.binary(max_size=40), st.floats(max_value=0, allow_nan=False))
SCORED = st.builds(Scored, LIKELY, st.lists(LIKELY, max_size=5).map(tuple))


@pytest.mark.rule("H16")
@given(st.lists(IDS, max_size=6), st.lists(SCORED, max_size=6))
def test_what_is_packed_is_unpacked(ids: list[int], scored: list[Scored]) -> None:
    packed = pack(ids, scored)
    # A release that does not know them reads the ids of a log as integers.
    again = tuple(map(int, " ".join(map(str, packed)).split()))
    assert unpack(again) == (tuple(ids), tuple(scored))
    assert unpack(ids) == (tuple(ids), ())


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
