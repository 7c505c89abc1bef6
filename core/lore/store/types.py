"""What is said to the store and what it says: requests, views, positions, messages."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, NamedTuple

from lore.protocol import fork
from lore.protocol.lifecycle import Status


class StoreUnavailable(Exception):
    """The store cannot be reached or cannot write now; the call may or may not have happened.

    Every call may be repeated safely.
    """


class Outcome(StrEnum):
    """How the store judged a call."""

    OK = "ok"
    FENCED = "fenced"  # another epoch owns the request, or none does any more: drop it
    GAP = "gap"  # the seq is not the next one: send again from Position.next_seq
    CONFLICT = "conflict"  # this seq is in the log with other content: a bug, drop the request
    FULL = "full"  # the queue of this partition is full (P17)
    AHEAD = "ahead"  # an ack for a chunk that the log does not have (P9)
    REFUSED = "refused"  # the lifecycle table has no such step from this state (P13)
    UNKNOWN = "unknown"  # no such request


@dataclass(frozen=True, slots=True)
class NewRequest:
    request_id: str
    subject: str
    body: str
    """The request's JSON, kept as it is (``StreamRequest``)."""
    fingerprint: str
    """Tells a retried POST from another one under the same key."""
    ack: str
    window: int
    """The window to start with, in tokens; 0 does not bind (ack ``none``)."""
    place_ms: int = 0
    """Where it stands in the queue (``Admission``); 0 for now, behind all that wait."""
    ahead: int = 0
    """How many of its client's requests stand ahead of it (``Admission``)."""
    trace: str = ""
    """See ``View.trace``."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client may have (P17); 0 is no limit."""

    streams: int = 0
    """Live requests."""
    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    """Of prompts and answers, by the minute in which their request is admitted."""


@dataclass(frozen=True, slots=True)
class Admission:
    """Whether a client may have one more request (P17)."""

    admitted: bool
    place_ms: int = 0
    """Where in the queue the request stands: now, or later for who has just asked a lot."""
    ahead: int = 0
    """How many places for the client's own requests lie between now and there."""
    limit: Literal["", "streams", "requests", "tokens"] = ""
    """When refused: the limit that would let it in last."""
    wait_ms: int = 0
    """When refused: how long until there is room without any request's end; 0 when unknown."""
    counted: tuple[tuple[str, int], ...] = ()
    """When refused: (request_id, ms since its admission) of some that are not known to have
    ended. If one has, ``settle`` it and ask again."""


@dataclass(frozen=True, slots=True)
class View:
    """Everything the store knows of a request but its log and body."""

    request_id: str
    subject: str
    fingerprint: str
    ack: str
    status: Status
    owner: str
    epoch: int
    log_id: str
    forks: str
    """The logs that this one goes back to, as ``protocol/fork.py`` writes them; '' for none."""
    next_seq: int
    generated_tokens: int
    """Tokens in the log."""
    acked_seq: int
    acked_tokens: int
    window: int
    prompt_tokens: int
    finish_reason: str
    error: str
    """A sentence for the reader when the request failed, or ''."""
    created_ms: int
    started_ms: int
    """When it was first claimed; 0 before."""
    progress_ms: int
    """The last append or ack that moved something."""
    finished_ms: int
    lease_until_ms: int
    tries: int = 0
    """Claims since it last came to something: a chunk, a closed window, or a hand-back (P15)."""
    trace: str = ""
    """Where its trace goes on (``lore.tracing``), or ''; the store does not look inside."""
    written_off_tokens: int = 0
    """Tokens up to which its generator has judged what nobody read, when it was reaped."""

    def shared(self, log_id: str) -> int:
        """How many of that log's chunks are this one's too (P4)."""
        return fork.shared(log_id, current=self.log_id, forks=self.forks)

    @property
    def first_log_id(self) -> str:
        """The log that the request was accepted with (P4)."""
        return f"{self.created_ms:x}"


@dataclass(frozen=True, slots=True)
class Claimed:
    """A request that the caller now owns, with what it needs to continue it."""

    view: View
    body: str
    run_id: str
    """The server's life in which it was claimed (``Store.run_id``)."""


class Position(NamedTuple):
    """The store's answer to an owner: where the log and the acks are."""

    outcome: Outcome
    status: Status | None
    next_seq: int = 0
    acked_seq: int = 0
    acked_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Vitals:
    """How the store's server is; of several, how the worst of them is in each respect."""

    memory_bytes: int = 0
    memory_limit_bytes: int = 0
    """0 for no limit."""
    replicas: int = 0
    """Those that follow it now."""
    replica_lag_bytes: int = 0
    """What the one furthest behind has yet to take."""


@dataclass(frozen=True, slots=True)
class Opened:
    outcome: Outcome  # OK, FULL or UNKNOWN
    created: bool
    view: View | None


# What the edges hear about a request (channel ``n``).


class ChunkMessage(NamedTuple):
    seq: int
    text: str
    tokens: int
    at_ms: int
    """When it was appended, by the store's clock."""
    log_id: str
    """The log that it was appended to. When the view shares fewer chunks with it, it or the
    view is of another time: read the view again (P4)."""


@dataclass(frozen=True, slots=True)
class AckMessage:
    acked_seq: int
    acked_tokens: int


@dataclass(frozen=True, slots=True)
class StateMessage:
    """The state changed: claimed, paused, resumed, failed_over, released, reaped, revived, ended.

    ``reason`` is one of those words. An ended request's details are in its view.
    """

    status: Status
    reason: str


Message = ChunkMessage | AckMessage | StateMessage
