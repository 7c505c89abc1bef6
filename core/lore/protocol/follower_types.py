"""The decisions of a follower (``follower.py``): calls to the store, and news for readers."""

from dataclasses import dataclass
from typing import NamedTuple

from lore.protocol.lifecycle import Status

REASONS = {
    Status.QUEUED: "released",
    Status.GENERATING: "resumed",
    Status.PAUSED: "paused",
    Status.REAPED: "reaped",
}
"""The reason in the state event for a change whose message was lost."""


@dataclass(frozen=True, slots=True)
class FollowerConfig:
    """Times in seconds."""

    page_chunks: int = 256
    restore_grace_s: float = 5.0
    """How long to wait for a request that was lost with the store's data (P4.7)."""
    unknown_retry_s: float = 0.2
    look_again_s: float = 0.2
    """How long to wait after the subscription before looking again: new readers are served
    first.
    """
    look_every_s: float = 15.0
    """How long without news or a look until news may have been lost."""
    retry_s: float = 0.05
    max_retry_s: float = 1.0


# Calls to the store. Each names the method that takes its answer.


class ReadView(NamedTuple):
    """Read the view: ``on_view``."""


class ReadPage(NamedTuple):
    """Read the log after ``after`` from the primary: ``on_log``."""

    after: int
    limit: int


class Check(NamedTuple):
    """The same, to see whether a chunk exists at all: ``on_checked``."""

    after: int
    limit: int = 1


class Acknowledge(NamedTuple):
    """Repeat an ack that the store has forgotten (P9.7): ``on_acknowledged``."""

    seq: int


class Return(NamedTuple):
    """Report that an unread request has a reader here (P7.5): ``on_returned``."""


# News for this edge's readers.


class Notify(NamedTuple):
    """There is more to send, or a state to report."""


class StateChange(NamedTuple):
    status: Status
    reason: str


class Acked(NamedTuple):
    seq: int


class Clear(NamedTuple):
    """The chunks kept in memory are of another log (P4)."""


class Hole(NamedTuple):
    """The ended answer's log lacks this chunk for good (P4.10)."""

    seq: int


Call = ReadView | ReadPage | Check | Acknowledge | Return
Command = Call | Notify | StateChange | Acked | Clear | Hole
