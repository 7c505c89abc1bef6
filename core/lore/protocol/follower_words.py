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
"""What to say of a change whose message was lost."""


@dataclass(frozen=True, slots=True)
class FollowerConfig:
    """Times in seconds."""

    page_chunks: int = 256
    restore_grace_s: float = 5.0
    """How long a request that went with the store's data is waited for (P4)."""
    unknown_retry_s: float = 0.2
    look_again_s: float = 0.02
    """After the subscription; the reader who has just come is served first."""
    look_every_s: float = 15.0
    """After so long without news, or a look, news may have been lost."""
    retry_s: float = 0.05
    max_retry_s: float = 1.0


# What to ask of the store. Each is answered by the method that is named.


class Look(NamedTuple):
    """Read the view: ``on_view``."""


class Read(NamedTuple):
    """Read the log after ``after``, of the primary: ``on_log``."""

    after: int
    limit: int


class Check(NamedTuple):
    """The same, to see whether a chunk is there at all: ``on_checked``."""

    after: int
    limit: int = 1


class Acknowledge(NamedTuple):
    """Say an ack again that the store has forgotten (P9): ``on_acknowledged``."""

    seq: int


class Return(NamedTuple):
    """Say that the request, which readers had left, has one here (P7): ``on_returned``."""


# What to tell this edge's readers.


class News(NamedTuple):
    """There is more to send, or to say."""


class State(NamedTuple):
    status: Status
    reason: str


class Acked(NamedTuple):
    seq: int


class Clear(NamedTuple):
    """The chunks kept in memory are of another log (P4)."""


class Hole(NamedTuple):
    """The ended answer's log lacks this chunk for good."""

    seq: int


Call = Look | Read | Check | Acknowledge | Return
Command = Call | News | State | Acked | Clear | Hole
