"""P13: every state with every event, against a table written a second time."""

import itertools

import pytest

from lore.protocol.lifecycle import (
    ENDED,
    LIVE,
    OWNED,
    Event,
    LifecycleError,
    Status,
    transition,
)

# One line per state; events in the order below; "-" where there is no step.
EVENTS = ["claim", "pause", "open", "release", "finish", "fail", "cancel", "reap", "revive"]
TABLE = """
queued     generating -      -          -      -    failed cancelled -      -
generating generating paused -          queued done failed cancelled reaped -
paused     generating paused generating queued done failed cancelled reaped -
done       -          -      -          -      -    -      -         -      -
failed     -          -      -          -      -    -      -         -      -
cancelled  -          -      -          -      -    -      -         -      -
reaped     -          -      -          -      -    -      cancelled -      queued
"""
EXPECTED = {
    (start, event): end
    for start, *ends in map(str.split, TABLE.strip().splitlines())
    for event, end in zip(EVENTS, ends, strict=True)
}


@pytest.mark.rule("P13.1")
@pytest.mark.parametrize(("status", "event"), list(itertools.product(Status, Event)))
def test_each_state_takes_the_events_of_the_table_and_no_other(
    status: Status, event: Event
) -> None:
    end = EXPECTED[status, event]
    if end == "-":
        with pytest.raises(LifecycleError, match=f"{status} cannot take the event {event}"):
            transition(status, event)
    else:
        assert transition(status, event) == end


@pytest.mark.rule("P13.2")
def test_the_groups_are_disjoint_and_what_ended_stays() -> None:
    assert LIVE.isdisjoint(ENDED)
    assert OWNED < LIVE
    assert set(Status) - LIVE - ENDED == {Status.REAPED}
    assert all(EXPECTED[status, event] == "-" for status in ENDED for event in EVENTS)


def test_every_state_that_has_not_ended_can_still_end() -> None:
    """P17"""
    for status in set(Status) - ENDED:
        assert transition(status, Event.CANCEL) in ENDED
