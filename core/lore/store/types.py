"""The commands of edges, and the answers to them.

Views, positions and messages, which owners and followers decide by, are in
``lore/protocol/messages.py``, and the other commands in ``lore/protocol/commands.py``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from lore.protocol.messages import Outcome, View

MAX_LISTED = 10_000
"""Requests of one subject that are found without their ids: the newest."""


class StoreUnavailable(Exception):
    """The store cannot be reached or cannot write now; the call may or may not have happened.

    Every call may be repeated safely.
    """


class StoreFull(StoreUnavailable):
    """The server's memory is full: what begins is refused, what was accepted goes on (P17)."""

    retry_after_s: float | None = None
    """When there is room again, whatever else ends before; None when nobody has looked."""


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
    asks_elsewhere: bool = False
    """Whether FULL makes its caller ask another partition, under a name of the same key: for the
    next ``ELSEWHERE_MS`` then all who ask under this name hear FULL, and go there too."""


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
class Vitals:
    """How the store's server is; of several, how the worst of them is in each respect."""

    memory_bytes: int = 0
    memory_limit_bytes: int = 0
    """0 for no limit."""
    replicas: int = 0
    """Those that follow it now."""
    replica_lag_bytes: int = 0
    """What the one furthest behind has yet to take."""

    @property
    def is_full(self) -> bool:
        """What begins is refused then (P17)."""
        return 0 < self.memory_limit_bytes < self.memory_bytes


@dataclass(frozen=True, slots=True)
class Opened:
    outcome: Outcome  # OK, FULL or UNKNOWN
    created: bool
    view: View | None


class Admit(NamedTuple):
    """Count a request that is about to be opened, if it is within all limits (P17).

    Refused, nothing counts; counted already, it does not count again. ``tokens`` is what it may
    use: prompt and answer. ``quantum_ms`` is how far apart a client's requests stand in the
    queue; 0 for all at their time.
    """

    client: str
    request_id: str
    limits: Limits
    tokens: int = 0
    quantum_ms: int = 0
    answers = Admission


class Settle(NamedTuple):
    """These requests of the client have ended: they are no streams any more, and count for the
    tokens that they used, for what they might have used when that is None."""

    client: str
    used_tokens: Mapping[str, int | None]
    answers = type(None)


class Leave(NamedTuple):
    """This request was admitted and has not come to be: it counts for nothing."""

    client: str
    request_id: str
    answers = type(None)


class Open(NamedTuple):
    """Accept a request into its partition's queue, or find the one that has this id.

    ``queue_limit`` bounds how many may wait in the partition; FULL creates nothing. From half of
    that on, FULL is said to those whose own requests ahead, over all partitions, are as many as
    the free places. A request that is there already is returned with ``created=False``; one that
    was deleted within the hour is UNKNOWN.
    """

    new: NewRequest
    queue_limit: int
    answers = Opened
