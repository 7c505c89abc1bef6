"""Stop strings: never shown, wherever the tokens cut them."""

from hypothesis import given
from hypothesis import strategies as st

from lore_generator.engines.stops import StopStrings

TEXT = st.text("ab\n", max_size=30)
STOPS = st.lists(st.text("ab\n", min_size=1, max_size=5), max_size=4)


def cut(text: str, stops: list[str]) -> str:
    """The rule said once more, on the whole text."""
    found = [at for stop in stops if (at := text.find(stop)) >= 0]
    return text[: min(found)] if found else text


@given(st.lists(st.text("ab\n", max_size=3), max_size=12), STOPS)
def test_text_ends_before_the_first_stop_string_however_it_is_cut(
    pieces: list[str], stops: list[str]
) -> None:
    filter_ = StopStrings(stops)
    shown: list[str] = []
    for piece in pieces:
        shown.append(filter_.feed(piece))
        if filter_.hit:
            break
    # A stop string that completes first wins, so the rule is applied to what was fed.
    fed = "".join(pieces[: len(shown)])
    assert "".join(shown) + filter_.flush() == cut(fed, stops)
    assert filter_.hit == (cut(fed, stops) != fed)


@given(TEXT, STOPS)
def test_what_is_shown_early_is_never_taken_back(text: str, stops: list[str]) -> None:
    filter_ = StopStrings(stops)
    shown = ""
    for sign in text:
        shown += filter_.feed(sign)
        assert cut(text, stops).startswith(shown) or filter_.hit


def test_only_a_possible_beginning_is_held_back() -> None:
    filter_ = StopStrings(["###"])
    assert filter_.feed("one #") == "one "
    assert filter_.feed("two") == "#two"
    assert filter_.feed("##") == ""
    assert filter_.flush() == "##"
