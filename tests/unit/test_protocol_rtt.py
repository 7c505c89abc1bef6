"""P11: the estimator of RFC 6298, against its formulas with numbers worked by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lore.protocol.rtt import RoundTrip, RttConfig

ROUND_TRIPS = st.floats(min_value=0.0, max_value=120.0)


def test_it_waits_a_second_before_the_first_sample() -> None:
    """RFC 6298 section 2.1"""
    assert RoundTrip(RttConfig()).rto_s == 1.0


@pytest.mark.rule("P11.1")
def test_the_first_sample_sets_both_estimates() -> None:
    """RFC 6298 section 2.2: SRTT = R, RTTVAR = R/2, RTO = SRTT + 4 RTTVAR."""
    trip = RoundTrip(RttConfig())
    trip.on_sample(0.5)
    assert (trip.srtt_s, trip.rttvar_s, trip.rto_s) == (0.5, 0.25, 1.5)


@pytest.mark.rule("P11.1")
def test_later_samples_are_smoothed() -> None:
    """RFC 6298 section 2.3; the variation is taken from the old SRTT."""
    trip = RoundTrip(RttConfig())
    trip.on_sample(0.5)
    trip.on_sample(0.7)
    assert trip.rttvar_s == pytest.approx(0.75 * 0.25 + 0.25 * 0.2)
    assert trip.srtt_s == pytest.approx(0.875 * 0.5 + 0.125 * 0.7)
    assert trip.rto_s == pytest.approx(0.525 + 4 * 0.2375)


def test_a_steady_short_round_trip_is_rounded_up_to_a_second() -> None:
    """RFC 6298 section 2.4"""
    trip = RoundTrip(RttConfig())
    for _ in range(50):
        trip.on_sample(0.02)
    assert trip.rto_s == 1.0


def test_the_clocks_grain_is_the_least_variation() -> None:
    """RFC 6298 section 2.3: RTO = SRTT + max(G, 4 RTTVAR)."""
    trip = RoundTrip(RttConfig(min_rto_s=0.0, granularity_s=0.25))
    for _ in range(200):
        trip.on_sample(0.5)
    assert trip.rto_s == pytest.approx(0.75)


@pytest.mark.rule("P11.2")
def test_each_timeout_doubles_up_to_the_cap_and_a_sample_ends_it() -> None:
    """RFC 6298 sections 5.5 and 2.5"""
    trip = RoundTrip(RttConfig())
    seen: list[float] = []
    for _ in range(8):
        seen.append(trip.rto_s)
        trip.on_timeout()
    assert seen == [1, 2, 4, 8, 16, 32, 60, 60]
    trip.on_sample(0.1)
    assert trip.rto_s == 1.0


@given(st.lists(st.one_of(ROUND_TRIPS, st.none())))
def test_the_timeout_stays_within_its_bounds_and_above_the_mean(
    steps: list[float | None],
) -> None:
    trip = RoundTrip(RttConfig())
    for step in steps:
        if step is None:
            trip.on_timeout()
        else:
            trip.on_sample(step)
        assert 1.0 <= trip.rto_s <= 60.0
        assert trip.rto_s >= min(trip.srtt_s or 0.0, 60.0)


@given(ROUND_TRIPS, st.integers(0, 70))
def test_backing_off_never_overflows(first: float, timeouts: int) -> None:
    trip = RoundTrip(RttConfig())
    trip.on_sample(first)
    for _ in range(timeouts * 100):
        trip.on_timeout()
    assert trip.rto_s <= 60.0
    trip.on_sample(0.0)
    assert trip.rto_s < 60.0 or first > 0
