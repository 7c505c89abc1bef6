"""Many connections at once, to processes as they are run. ``python -m tests.faults.storm``
does the same with 2,000 readers."""

import pytest
import uvloop

from tests.faults.storm import SAMPLE, Slow, Storm, slow_readers, storm

READERS = 400
IDLE_KIB = 64
"""Memory of an edge for an idle reader, at most. It measures about 22."""
SLOW_READERS, SLOW_TOKENS = 100, 10_000
SLOW_BUFFER_BYTES = 8192
SLOW_KIB = 300
"""Memory of an edge for a reader that does not read, with that buffer, at most. It measures about
200, and 960 with a buffer that is never full."""


@pytest.fixture(scope="module")
def seen() -> Storm:
    return uvloop.run(storm(READERS))


@pytest.fixture(scope="module")
def seen_slow() -> Slow:
    return uvloop.run(
        slow_readers(SLOW_READERS, SLOW_TOKENS, socket_buffer_bytes=SLOW_BUFFER_BYTES)
    )


@pytest.mark.rule("P1.1")
def test_every_reader_of_a_killed_edge_comes_back_and_loses_nothing(seen: Storm):
    """P1, P12: what a reader has is a prefix of its answer at every chunk."""
    assert len(seen.back_s) == READERS // 2
    assert seen.violations == []
    assert seen.finished > SAMPLE


def test_no_reader_in_a_storm_is_answered_with_an_error_but_503_and_when_to_return(seen: Storm):
    """P12. A 503 without its ``Retry-After`` is among the violations."""
    assert set(seen.statuses) <= {200, 204, 503}
    assert seen.violations == []


def test_an_edge_stays_alive_in_a_storm_and_its_memory_bounded(seen: Storm):
    assert set(seen.livez) == {200}
    assert seen.shared_kib < IDLE_KIB
    assert seen.own_kib < IDLE_KIB
    assert (seen.peak_mib - seen.before_mib) * 1024 < READERS * IDLE_KIB


def test_an_edge_with_many_streams_drains_within_its_grace_time(seen: Storm):
    """Every reader is told; none is cut off. ``storm`` waits for no longer than the grace."""
    assert seen.exit_status == 0
    assert seen.sent_away == READERS
    assert len(seen.moved_s) == READERS


def test_readers_that_do_not_read_cost_bounded_memory_and_lose_nothing(seen_slow: Slow):
    """What waits for them they get from the log, a page at a time (P1, P12)."""
    assert seen_slow.violations == []
    assert seen_slow.each_kib < SLOW_KIB
    assert set(seen_slow.livez) == {200}
