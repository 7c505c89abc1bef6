"""The life of a request (protocol P13): one table. Everything outside it is an error.

    queued -> generating <-> paused -> done | failed | cancelled
              generating | paused -> reaped -> queued (revived)

The store's Lua library and its in-memory twin both follow this table; the state machine in
``tests/store`` checks all three against each other.
"""

from enum import StrEnum


class Status(StrEnum):
    QUEUED = "queued"
    GENERATING = "generating"
    PAUSED = "paused"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REAPED = "reaped"


class Event(StrEnum):
    CLAIM = "claim"  # a generator takes the request, from the queue or from a lapsed lease
    PAUSE = "pause"  # the window closed
    OPEN = "open"  # an ack opened it again
    RELEASE = "release"  # the owner hands the request back
    FINISH = "finish"
    FAIL = "fail"
    CANCEL = "cancel"
    REAP = "reap"
    REVIVE = "revive"


TRANSITIONS: dict[tuple[Status, Event], Status] = {
    (Status.QUEUED, Event.CLAIM): Status.GENERATING,
    (Status.QUEUED, Event.FAIL): Status.FAILED,
    (Status.QUEUED, Event.CANCEL): Status.CANCELLED,
    (Status.GENERATING, Event.CLAIM): Status.GENERATING,
    (Status.GENERATING, Event.PAUSE): Status.PAUSED,
    (Status.GENERATING, Event.RELEASE): Status.QUEUED,
    (Status.GENERATING, Event.FINISH): Status.DONE,
    (Status.GENERATING, Event.FAIL): Status.FAILED,
    (Status.GENERATING, Event.CANCEL): Status.CANCELLED,
    (Status.GENERATING, Event.REAP): Status.REAPED,
    (Status.PAUSED, Event.CLAIM): Status.GENERATING,
    (Status.PAUSED, Event.PAUSE): Status.PAUSED,
    (Status.PAUSED, Event.OPEN): Status.GENERATING,
    (Status.PAUSED, Event.RELEASE): Status.QUEUED,
    (Status.PAUSED, Event.FINISH): Status.DONE,
    (Status.PAUSED, Event.FAIL): Status.FAILED,
    (Status.PAUSED, Event.CANCEL): Status.CANCELLED,
    (Status.PAUSED, Event.REAP): Status.REAPED,
    (Status.REAPED, Event.CANCEL): Status.CANCELLED,
    (Status.REAPED, Event.REVIVE): Status.QUEUED,
}

LIVE = frozenset({Status.QUEUED, Status.GENERATING, Status.PAUSED})
OWNED = frozenset({Status.GENERATING, Status.PAUSED})
ENDED = frozenset({Status.DONE, Status.FAILED, Status.CANCELLED})
assert not any(status in ENDED for status, _ in TRANSITIONS), "P13.2: nothing follows an end"


CONTEXT_EXCEEDED = "context_length_exceeded"
INVALID_PROMPT = "invalid_prompt"
INVALID_SCHEMA = "invalid_schema"
REFUSALS = frozenset({CONTEXT_EXCEEDED, INVALID_PROMPT, INVALID_SCHEMA})
"""Finish reasons of a request that failed because of what was asked: no generator could answer
it.
"""
FAILURES = REFUSALS | {"error"}


def end_status(finish_reason: str) -> Status:
    """The final status of a request whose generator gave this finish reason."""
    return Status.FAILED if finish_reason in FAILURES else Status.DONE


class LifecycleError(Exception):
    """The table has no such event in this state."""


def transition(status: Status, event: Event) -> Status:
    """Return the state that ``event`` leads to.

    Raises LifecycleError when the table has no such step.
    """
    try:
        return TRANSITIONS[status, event]
    except KeyError:
        raise LifecycleError(f"a request that is {status} cannot take the event {event}") from None
