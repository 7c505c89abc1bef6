"""Whose prompt is read in a step: long prompts take half of the time at most, and all of them go
on."""

from collections.abc import Mapping

import pytest

from lore_generator.engines.shares import LEAST_TOKENS, PIECE_S, Shares

STEP, PIECE = 512, 100
PIECE_COST, DECODE_COST = 10.0, 1.0


def shares() -> Shares:
    return Shares(STEP, PIECE)


def read(remaining: dict[str, int], steps: int, *, others: bool) -> list[str]:
    """What is read in each step, '' for no long prompt, until there is none; the remaining is less
    afterwards."""
    turns, seen = shares(), list[str]()
    for _ in range(steps):
        chosen = turns.choose(remaining, others=others)
        seen.append(chosen or "")
        if chosen:
            remaining[chosen] -= PIECE
        turns.on_step(PIECE_COST if chosen else DECODE_COST, piece=bool(chosen))
        if not turns.long(remaining):
            break
    return seen


def test_a_long_prompt_alone_is_read_in_every_step() -> None:
    assert read({"a": 1_000}, 99, others=False) == ["a"] * 9


def test_others_get_as_much_time_as_long_prompts() -> None:
    seen = read({"a": 1_000}, 99, others=True)
    assert seen.count("a") == 9
    pauses = "".join("x" if one else "." for one in seen).strip("x").split("x")
    assert [len(pause) * DECODE_COST for pause in pauses] == [PIECE_COST] * 8


def test_who_comes_while_a_piece_is_read_is_owed_its_time() -> None:
    turns = shares()
    turns.on_step(PIECE_COST, piece=True)
    assert turns.choose({"a": 1_000, "short": 5}, others=True) is None
    assert turns.choose({"a": 1_000}, others=False) == "a"


@pytest.mark.parametrize("others", [False, True])
def test_long_prompts_take_turns_and_none_starves(others: bool) -> None:
    """One of 600 tokens does not wait for one of 8,000; shorter ones that keep coming take half."""
    remaining = {"long": 8_000, "shorter": 600}
    seen = [one for one in read(remaining, 150, others=others) if one]
    assert "shorter" in seen
    last = len(seen) - seen[::-1].index("shorter")
    assert seen[:last].count("long") == pytest.approx(seen.count("shorter"), abs=1)
    turns, many = shares(), {"long": 1_000} | {f"{n}": 300 for n in range(99)}
    while many["long"] > PIECE:
        chosen = turns.choose(many, others=False)
        assert chosen is not None
        many[chosen] -= PIECE
        turns.on_step(PIECE_COST, piece=True)
    assert sum(tokens < 300 for key, tokens in many.items() if key != "long") < 9


@pytest.mark.parametrize(
    ("remaining", "long"),
    [({}, []), ({"a": PIECE}, []), ({"a": PIECE + 1, "b": 5, "c": 900}, ["a", "c"])],
)
def test_a_prompt_is_long_that_one_piece_cannot_hold(
    remaining: Mapping[str, int], long: list[str]
) -> None:
    assert shares().long(remaining) == long


def test_a_piece_takes_about_as_long_as_it_should() -> None:
    """Whatever a token costs: what is read later costs more."""
    for token_s in (PIECE_S / 200, PIECE_S / 450):
        turns = shares()
        for _ in range(8):
            turns.fit(turns.piece_tokens, turns.piece_tokens * token_s)
        assert turns.piece_tokens * token_s == pytest.approx(PIECE_S, rel=0.05)


@pytest.mark.parametrize(("token_s", "tokens"), [(1e-9, STEP), (0.0, STEP), (9.0, LEAST_TOKENS)])
def test_a_piece_is_no_larger_than_a_step_and_not_too_small(token_s: float, tokens: int) -> None:
    turns = shares()
    for _ in range(8):
        turns.fit(turns.piece_tokens, turns.piece_tokens * token_s)
    assert turns.piece_tokens == tokens
