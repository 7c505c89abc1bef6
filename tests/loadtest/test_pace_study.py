"""What pace promises, in the study's virtual time; ``make pace`` has the whole study."""

from collections import Counter
from itertools import chain

import pytest

from loadtest.pace.measures import Answer, Measures, measure
from loadtest.pace.runs import Crowd
from loadtest.pace.study import PACE, POLICIES, WINDOW, run


def crowd(load: float) -> Crowd:
    """One of the study's, with answers half as long as usual, so that it takes a second."""
    return Crowd(load=load, tokens=150)


def both(load: float) -> tuple[Measures, Measures]:
    """With pace, and with the window alone."""
    return measure(run((crowd(load), PACE))), measure(run((crowd(load), WINDOW)))


@pytest.mark.parametrize(
    ("load", "p50_ratio", "p99_ratio"), [(1.2, 0.1, 0.1), (1.5, 0.1, 0.6)], ids=["1.2", "1.5"]
)
def test_readers_have_text_soon_although_more_is_asked_for_than_can_be_made(
    load: float, p50_ratio: float, p99_ratio: float
) -> None:
    pace, window = both(load)
    assert pace.ttft_p50_s <= p50_ratio * window.ttft_p50_s
    assert pace.ttft_p99_s <= p99_ratio * window.ttft_p99_s
    assert pace.late <= window.late + 0.01
    assert pace.experience > 0.95 > window.experience
    assert pace.effective > window.effective
    assert pace.makespan_s <= 1.05 * window.makespan_s
    assert pace.long_s > 1.1 * window.long_s  # who pays for it


def test_nothing_changes_while_nobody_waits() -> None:
    quiet = Crowd(load=0.4, answers=100, tokens=150)
    assert run((quiet, PACE)) == run((quiet, WINDOW))


@pytest.mark.parametrize("policy", POLICIES)
def test_the_simulated_engine_makes_every_token_and_no_more_than_it_has_slots(policy: str) -> None:
    few = Crowd(load=2.0, answers=60, slots=10, tokens=100)
    answers = run((few, policy))
    assert sorted(map(_length, answers)) == sorted(few.lengths())
    in_a_step = Counter(chain.from_iterable(answer.arrivals_s for answer in answers))
    assert max(in_a_step.values()) == few.slots
    assert all(len(set(answer.arrivals_s)) == _length(answer) for answer in answers)


@pytest.mark.parametrize("burst", [1, 8])
def test_a_crowd_asks_for_what_its_load_says(burst: int) -> None:
    some = Crowd(load=1.25, answers=80, slots=10, tokens=50, burst=burst)
    assert sum(some.lengths()) == pytest.approx(80 * 50, rel=0.02)
    times_s = some.times_s()
    assert times_s == sorted(times_s)
    asked_in_s = 80 * 50 / (1.25 * 10 * some.rate)
    assert times_s[-1] == pytest.approx(asked_in_s if burst == 1 else asked_in_s * 0.9)


def _length(answer: Answer) -> int:
    return len(answer.arrivals_s)
