"""The commands of the store, as tuples: each operation is defined here and nowhere else.

Pure code decides on commands, and a shell hands them to ``Store.do``. The store in memory executes
them (``store/memory``). The store in Valkey packs their fields into a call of its library
(``store/valkey/packing.py``), which unpacks them (``store/lua``). All three name an operation after
its class: ``GiveUp`` is ``give_up`` in Python and ``lore_give_up`` in Lua. The fields have the
order of the function's arguments; a last field that is None is not sent. ``answers`` is the type of
the store's answer. If that is a position, its outcome is ``unknown`` when the request is.

Times are in milliseconds, as everywhere in the store. Every operation validates before it writes
and may be repeated. A command without an answer may have been executed. Operations that only an
edge's callers ask for are in ``lore/store/types.py``.
"""

import re
from collections.abc import Sequence
from functools import cache
from typing import Any, Literal, NamedTuple, Protocol, TypeVar, cast

from lore.protocol.chunk import Chunk
from lore.protocol.lifecycle import Status
from lore.protocol.messages import Claimed, Position, View

T_co = TypeVar("T_co", covariant=True)


class Command(Protocol[T_co]):
    @property
    def answers(self) -> type[T_co]: ...


@cache
def name_of(kind: type[Any]) -> str:
    """The name of an operation: ``GiveUp`` is ``give_up``."""
    return re.sub("(?<!^)([A-Z])", r"_\1", kind.__name__).lower()


# commands of owners


class Append(NamedTuple):
    """Append chunks in seq order (P2, P5). Without chunks it asks for the position. The lease is
    not prolonged (P15.23), unless the store has forgotten this claim: then it takes it over and
    renews it.

    Chunks below ``next_seq`` must equal the log's (else ``conflict``) and are skipped. ``log_id``
    is that of the claim. If the store has forgotten that claim and the fork that it made, these
    chunks belong to no existing log and are fenced. Everything that was sent before without a
    reply, or must be sent again, goes in one call: the store takes an append as the owner's word
    that its log then has all that readers may have (P3.2).

    ``reopen_tokens`` > 0 says that the owner's credit is used up once these chunks are in the log,
    and that it wants to hear when ``acked_tokens`` reaches that count. Afterwards the request is
    paused exactly when ``reopen_tokens > acked_tokens``. The acks in the position tell the owner if
    that count is reached already, so no wake-up is lost. ``window`` is kept for the view alone (0:
    it does not bind): the rule that opens a window is in ``protocol/window.py``.
    """

    request_id: str
    owner: str
    lease_ms: int
    epoch: int
    log_id: str
    window: int
    reopen_tokens: int
    chunks: Sequence[Chunk]
    answers = Position


class Prompt(NamedTuple):
    """Report how many tokens the prompt has (O20) and which model answers (P15.19). It is sent once
    the prompt is read, so that both are known of requests that are cancelled or reaped. Readers are
    told when an answer goes on with another model (P15.21). OK or FENCED.
    """

    request_id: str
    owner: str
    epoch: int
    prompt_tokens: int
    model: str | None = None
    answers = Position


class Finish(NamedTuple):
    """End a request as done or failed (P13). GAP when the log does not reach ``next_seq``. The
    request's keys expire ``retention_ms`` later.
    """

    request_id: str
    owner: str
    epoch: int
    next_seq: int
    status: Status
    finish_reason: str
    error: str
    prompt_tokens: int
    retention_ms: int
    log_id: str
    answers = Position


class Release(NamedTuple):
    """Hand a request back to the queue, at its original place (P15). The claim does not count as a
    try, unless ``why`` says that the engine or the owner ``failed``, or that the owner is
    ``silent``. A silent owner may live out of reach and believe itself alone until its lease ends,
    so a claim before then forks the log (P4.8).
    """

    request_id: str
    owner: str
    epoch: int
    why: Literal["failed", "silent"] | None = None
    answers = Position


class Reinstate(NamedTuple):
    """Give a request back to a store that has lost it with its data (P3.3).

    ``view`` is what its owner knows of it. ``chunks`` is its log from seq 1 on, as far as the store
    is known to have had it. Afterwards the request is generating, under a new lease of this owner.
    A request that the store has is left as it is: OK when it is still this owner's, else FENCED.
    """

    view: View
    body: str
    chunks: Sequence[Chunk]
    lease_ms: int
    answers = Position


class Renew(NamedTuple):
    """Renew leases in one partition (P15). Answer: a position for each, in order."""

    partition: int
    owner: str
    lease_ms: int
    leases: Sequence[tuple[str, int, str]]
    """request_id, epoch and log_id of each request."""
    answers = list[Position]


class Silent(NamedTuple):
    """Owners that have no subscriber at the server whose life is ``run_id`` (P15.10). Requests of
    owners that renewed the lease within ``silent_ms`` are not claimed.
    """

    run_id: str
    silent_ms: int
    owners: tuple[str, ...]


class Others(NamedTuple):
    """Leave answers that another model began to generators that have it, for ``left_ms`` after a
    claim first passed them over (P15.22).
    """

    model: str
    left_ms: int


class Claim(NamedTuple):
    """Claim the partition's first request whose lease has lapsed, else one whose owner has left,
    else one that waits (P15). Answer: None when there is none.

    The claim counts as a try (``View.tries``). With ``untried``, requests that have a try are
    passed over. The log is forked when the store may have forgotten its tail (P4.2): the run id
    kept with the request is not this server's. ``next_seq`` may then be 1, when everything was
    forgotten.
    """

    partition: int
    owner: str
    lease_ms: int
    untried: bool = False
    silent: tuple[Silent, ...] = ()
    """Owners that may have left. The store checks again."""
    others: Others | None = None
    answers = cast("type[Claimed | None]", Claimed)


class Waiting(NamedTuple):
    """Ask for (place_ms, partition) of the first claimable request of each partition, in the order
    of their places: queued requests, lapsed leases, and requests of owners that have left (P17). A
    server of a cluster that is away is left out, unless all are.

    A caller that says how long leases are has longer ones shortened, because another clock than the
    server's gave them (P15.7).
    """

    lease_ms: int | None = None
    silent: tuple[Silent, ...] = ()
    answers = list[tuple[int, int]]


class Meet(NamedTuple):
    """Announce this generator to the others (P15). Answer: the names of all generators that did so
    within ``keep_ms``; none when the store has an older library.
    """

    owner: str
    keep_ms: int
    answers = list[str]


# Commands that a shell carries out without the library.


class Look(NamedTuple):
    """Ask which of these owners have a subscriber to their own channel at the server of a partition
    (P15.10). Answer: their names.
    """

    partition: int
    owners: tuple[str, ...]
    answers = list[str]


class ReadLog(NamedTuple):
    """Read a whole log with token ids, for a takeover. Answer: its chunks."""

    request_id: str


class Subscribe(NamedTuple):
    """Subscribe to what the store publishes to the owner of a request. Answer: None once
    subscribed.
    """

    request_id: str
    epoch: int


class Unsubscribe(NamedTuple):
    """Unsubscribe, unless a claim with another epoch has taken the subscription over. Nobody waits
    for an answer.
    """

    request_id: str
    epoch: int


# commands of readers; ``subject`` says on whose behalf: somebody else's request is unknown to it


class Ack(NamedTuple):
    """The reader has everything up to a seq: OK or AHEAD (P9). Resumes a paused request once its
    acked tokens reach ``reopen_tokens`` (P6), and tells its owner.
    """

    request_id: str
    seq: int
    subject: str | None = None
    answers = Position


class Readers(NamedTuple):
    """An edge reports that its last reader of the request has left, or that it has one (P7): OK.

    Before there is any text, a request whose readers have left is unread. It is paused once it is
    owned, so that its prompt is not read. Later this changes nothing, nor for ack kind ``none``. An
    edge with a reader that sees an unread request reports again, so a reader has the last word
    whichever call overtakes which (P7.5).
    """

    request_id: str
    here: Literal["left", "back"]
    answers = Position


class Cancel(NamedTuple):
    """Cancel a request for good (P14): OK (also when cancelled before), or REFUSED when it ended
    otherwise. Raises the epoch, so that its owner is fenced. It expires ``retention_ms`` later.
    """

    request_id: str
    retention_ms: int
    subject: str | None = None
    answers = Position


class Forget(NamedTuple):
    """Delete a request and its log at once; a live request is cancelled first.

    Its followers hear that it ended, and find nothing when they look. For an hour its id stays
    taken: nobody opens it again, or gives it back to a store that has lost data (P3.5).
    """

    request_id: str
    subject: str | None = None
    answers = Position


class Revive(NamedTuple):
    """Queue a reaped request again, to continue after its log (P16). REFUSED when not reaped."""

    request_id: str
    subject: str | None = None
    answers = Position


# commands of the operator and the sweep


class Reap(NamedTuple):
    """Reap a generating or paused request without progress for ``idle_ms`` (P16).

    REFUSED when it made progress since, or is in another state. Raises the epoch, so that its owner
    is fenced. It expires ``retention_ms`` later unless it is revived before.
    """

    request_id: str
    idle_ms: int
    retention_ms: int
    answers = Position


class GiveUp(NamedTuple):
    """Give up the partition's answers that ended by ``until_ms`` and were read, ``most`` at most,
    the oldest first (P17.9). Answer: how many.
    """

    partition: int
    until_ms: int
    most: int
    answers = int
