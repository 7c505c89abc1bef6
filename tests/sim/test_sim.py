"""Fixed seeds of the simulator; ``make sim`` runs thousands of fresh ones."""

import pytest

from tests.sim.__main__ import describe
from tests.sim.faults import Options
from tests.sim.run import Result, simulate

SEEDS = 300
BLOCK = 25


def assert_clean(result: Result) -> None:
    if result.violation:
        pytest.fail(
            f"seed {result.seed}: {result.violation}\n{describe(result.options)}\n"
            f"replay it with: python -m tests.sim --seed {result.seed}"
        )


@pytest.mark.rule(
    "E16",
    "P1.1",
    "P1.2",
    "P2.1",
    "P2.5",
    "P2.10",
    "P3.1",
    "P4.2",
    "P5.1",
    "P9.2",
    "P9.3",
    "P9.7",
    "P13.1",
    "P13.2",
    "P15.1",
    "P15.3",
    "P15.4",
    "P15.10",
    "P15.17",
    "P17.1",
)
@pytest.mark.parametrize("first", range(0, SEEDS, BLOCK))
def test_nothing_is_lost_doubled_or_forgotten_whatever_fails(first: int) -> None:
    for seed in range(first, first + BLOCK):
        assert_clean(simulate(seed))


def test_a_run_is_replayed_exactly_by_its_seed() -> None:
    options = Options(event_loss=0.1, call_lost=0.1, generator_crash_rate=0.05)
    one: list[str] = []
    other: list[str] = []
    simulate(7, options, trace=one.append)
    simulate(7, options, trace=other.append)
    assert len(one) > 50
    assert one == other


def test_seeds_differ_in_what_goes_wrong() -> None:
    seen = {tuple(sorted(simulate(seed).injected)) for seed in range(8)}
    assert len(seen) > 4


@pytest.mark.rule("P1.1")
def test_a_system_without_faults_is_quick_and_loses_nothing() -> None:
    for seed in range(10):
        result = simulate(seed, Options())
        assert_clean(result)
        assert not result.injected
        assert result.virtual_s < 25


@pytest.mark.rule("P7.1")
def test_an_absent_reader_stops_generation_within_a_window() -> None:
    """P7: the decoded tokens of a request that nobody reads are checked at every step."""
    options = Options(vanish_ratio=1.0, return_ratio=0.0, answer_tokens=5_000, step_s=0.05)
    for seed in range(5):
        result = simulate(seed, options)
        assert_clean(result)
        assert result.injected["reader vanishes"] == 2
