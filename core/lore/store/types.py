"""The commands of edges, and the answers to them.

The types by which owners and followers decide (views, positions, messages) are in
``lore/protocol/messages.py``, the other commands in ``lore/protocol/commands.py``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from lore.protocol.messages import Outcome, View

MAX_LISTED = 10_000
"""How many requests of one subject are listed at most: the newest."""


class StoreUnavailable(Exception):
    """The store cannot be reached or cannot write now; the call may or may not have happened.

    Every call may be repeated safely.
    """


class StoreFull(StoreUnavailable):
    """The server's memory is full: new requests are refused, accepted ones go on (P17)."""

    retry_after_s: float | None = None
    """In how many seconds there is room at the latest; None when unknown."""


@dataclass(frozen=True, slots=True)
class NewRequest:
    request_id: str
    subject: str
    body: str
    """The request's JSON, kept as it is (``StreamRequest``)."""
    fingerprint: str
    """Distinguishes a retried POST from another one with the same key."""
    ack: str
    window: int
    """The initial window in tokens; 0 does not bind (ack ``none``)."""
    place_ms: int = 0
    """Its place in the queue (``Admission``); 0 means now, behind all that wait."""
    ahead: int = 0
    """How many of its client's requests stand ahead of it (``Admission``)."""
    trace: str = ""
    """See ``View.trace``."""
    asks_elsewhere: bool = False
    """Whether the caller tries another partition when it gets FULL, under another id of the same
    key. For the next ``ELSEWHERE_MS``, all callers with this id then get FULL, and go there too.
    """


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one client (P17); 0 means no limit."""

    streams: int = 0
    """Live requests."""
    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    """The tokens of prompts and answers, counted in the minute in which their request is
    admitted.
    """


@dataclass(frozen=True, slots=True)
class Admission:
    """Whether a client may have one more request (P17)."""

    admitted: bool
    place_ms: int = 0
    """The request's place in the queue: now, or later for a client that has just asked a lot."""
    ahead: int = 0
    """How many of the client's own requests stand between now and there."""
    limit: Literal["", "streams", "requests", "tokens"] = ""
    """If refused: the limit that takes longest to have room again."""
    wait_ms: int = 0
    """If refused: how long until there is room even if no request ends; 0 when unknown."""
    counted: tuple[tuple[str, int], ...] = ()
    """If refused: (request_id, ms since its admission) of some requests that are not known to have
    ended. If one has ended, ``settle`` it and ask again.
    """


@dataclass(frozen=True, slots=True)
class Vitals:
    """The state of the store's server; over several servers, the worst of each value."""

    memory_bytes: int = 0
    memory_limit_bytes: int = 0
    """0 for no limit."""
    replicas: int = 0
    """The number of replicas that follow it now."""
    replica_lag_bytes: int = 0
    """How far the slowest replica is behind."""

    @property
    def is_full(self) -> bool:
        """Whether new requests are refused (P17)."""
        return 0 < self.memory_limit_bytes < self.memory_bytes


@dataclass(frozen=True, slots=True)
class Opened:
    outcome: Outcome  # OK, FULL or UNKNOWN
    created: bool
    view: View | None


class Admit(NamedTuple):
    """Count a request that is about to be opened, if it is within all limits (P17).

    A refused request is not counted, and a request is counted once. ``tokens`` is what its prompt
    and answer may use. ``quantum_ms`` is the distance between a client's requests in the queue;
    with 0 each stands at its own time.
    """

    client: str
    request_id: str
    limits: Limits
    tokens: int = 0
    quantum_ms: int = 0
    answers = Admission


class Settle(NamedTuple):
    """These requests of the client have ended. They no longer count as streams. Each counts for the
    tokens that it used, or, if that is None, for what it might have used.
    """

    client: str
    used_tokens: Mapping[str, int | None]
    answers = type(None)


class Leave(NamedTuple):
    """An admitted request was not created: it no longer counts."""

    client: str
    request_id: str
    answers = type(None)


class Open(NamedTuple):
    """Accept a request into its partition's queue, or find the one with this id.

    ``queue_limit`` bounds how many may wait in the partition. FULL creates nothing. From half of
    the limit on, FULL is also the answer to a client that has as many requests of its own ahead,
    over all partitions, as there are free places (P17.3). An existing request is returned with
    ``created=False``; one that was deleted within the last hour is UNKNOWN.
    """

    new: NewRequest
    queue_limit: int
    answers = Opened
