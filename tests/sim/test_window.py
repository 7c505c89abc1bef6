"""What the window's defaults promise, in the simulator; ``make window`` has the whole study."""

import pytest

from loadtest.window.runs import DEFAULT, Path, Policy, absent, healthy


@pytest.mark.rule("P6.2")
@pytest.mark.parametrize("rtt_s", [0.03, 0.2, 0.5])
def test_a_healthy_reader_half_a_second_away_stalls_nothing_at_twenty_tokens_a_second(
    rtt_s: float,
) -> None:
    assert healthy(DEFAULT, Path(rtt_s, 20.0, tokens=300)).stalls == 0


@pytest.mark.rule("P6.2")
@pytest.mark.parametrize("rate", [50.0, 200.0, 500.0])
def test_nobody_who_reads_waits_while_the_window_grows(rate: float) -> None:
    """P6: a fast model stalls a few times at first, but text enough is there by then."""
    run = healthy(DEFAULT, Path(0.5, rate, tokens=600))
    assert run.stalls > 0
    assert run.starved_s == 0


@pytest.mark.rule("P7.1")
def test_a_window_that_grew_for_a_long_way_is_the_most_that_an_absent_reader_costs() -> None:
    near = absent(DEFAULT, Path(0.05, 50.0, tokens=1000))
    far = absent(DEFAULT, Path(0.5, 200.0, tokens=3000))
    assert near.window == 32
    assert 0 < near.wasted <= 32
    assert 32 < far.window < 1024
    assert 0 < far.wasted <= far.window


def test_a_window_that_cannot_grow_stalls_a_reader_far_away_again_and_again() -> None:
    """P6: what the doubling is for."""
    path = Path(0.5, 50.0, tokens=300)
    assert healthy(Policy("fixed", 32, 32), path).stalls > 5 * healthy(DEFAULT, path).stalls
