"""Chunk assembly: text at once after a pause, else by size or delay, nothing lost."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lore.protocol.assembly import Assembler, CoalesceConfig

CONFIG = CoalesceConfig(max_delay_s=0.03, max_chars=10)


def test_the_first_text_is_due_at_once() -> None:
    assembler = Assembler(CONFIG)
    assembler.add("a", (1,), now=5.0)
    assert assembler.due_s == 5.0


def after_a_chunk(taken_s: float) -> Assembler:
    assembler = Assembler(CONFIG)
    assembler.add("x", (0,), now=taken_s)
    assembler.take(taken_s)
    return assembler


def test_later_text_waits_for_the_delay_counted_from_the_chunk_before() -> None:
    assembler = after_a_chunk(5.0)
    assembler.add("a", (1,), now=5.01)
    assembler.add("b", (2,), now=5.02)
    assert assembler.due_s == 5.03
    assert assembler.take(5.03) == ("ab", (1, 2))
    assert assembler.due_s == math.inf


def test_text_after_a_pause_is_due_at_once() -> None:
    assembler = after_a_chunk(5.0)
    assembler.add("a", (1,), now=5.05)
    assert assembler.due_s == 5.05


def test_later_text_is_due_at_once_when_it_is_long() -> None:
    assembler = after_a_chunk(5.0)
    assembler.add("a" * 9, (1,), now=5.01)
    assert assembler.due_s == 5.03
    assembler.add("b", (2,), now=5.02)
    assert assembler.due_s == 5.01


def test_half_a_character_waits_for_its_other_half() -> None:
    """Tokens that bring no whole character yet are not worth a chunk, but are kept."""
    assembler = Assembler(CONFIG)
    assembler.add("", (1,), now=5.0)
    assert assembler.due_s == math.inf
    assert assembler.token_ids
    assembler.add("é", (2,), now=5.5)
    assert assembler.take(5.5) == ("é", (1, 2))
    assert not assembler.token_ids


def test_a_chunk_without_text_is_not_the_first() -> None:
    """The window closed on half a character: the first word is still due at once."""
    assembler = Assembler(CONFIG)
    assembler.add("", (1,), now=5.0)
    assert assembler.take(5.0) == ("", (1,))
    assembler.add("é", (2,), now=6.0)
    assert assembler.due_s == 6.0


@pytest.mark.rule("P1.1")
@given(
    st.lists(
        st.tuples(st.text(max_size=6), st.integers(0, 3), st.floats(0, 0.05), st.booleans()),
        max_size=40,
    )
)
def test_nothing_is_lost_cut_or_reordered(
    steps: list[tuple[str, int, float, bool]],
) -> None:
    """P1: taken at any moments, the chunks join to what came in."""
    assembler = Assembler(CONFIG)
    now, token = 0.0, 0
    text, ids, out_text, out_ids = "", list[int](), "", list[int]()
    for piece, tokens, pause_s, take in steps:
        now += pause_s
        new = tuple(range(token, token + tokens))
        token += tokens
        assembler.add(piece, new, now)
        text += piece
        ids += new
        due = assembler.due_s
        assert due == math.inf or due <= now + CONFIG.max_delay_s
        if take:
            taken, taken_ids = assembler.take(now)
            out_text += taken
            out_ids += taken_ids
    taken, taken_ids = assembler.take(now)
    assert (out_text + taken, out_ids + list(taken_ids)) == (text, ids)
