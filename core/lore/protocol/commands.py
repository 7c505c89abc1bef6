"""The commands of the store, as tuples: each operation is defined here and nowhere else.

Pure code decides on them, a shell hands them to ``Store.do``. The model in memory executes them
(``store/twin``), the store in Valkey packs their fields into a call of its library
(``store/valkey/packing.py``), and that unpacks them (``store/lua``). All three name an operation
after its class: ``GiveUp`` is ``give_up`` there and ``lore_give_up`` here. Fields stand in the
order of the function's arguments; a last one that is None is not sent. ``answers`` is what the
store answers with: where that is a position, its outcome is ``unknown`` when the request is.

Times are in milliseconds, as everywhere in the store. Every one of them validates before it
writes, may be repeated, and may have happened when no answer came. What only a caller of the
edge's asks for is in ``lore/store/types.py``.
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
    """Of an operation: ``GiveUp`` is ``give_up``."""
    return re.sub("(?<!^)([A-Z])", r"_\1", kind.__name__).lower()


# an owner's


class Append(NamedTuple):
    """Append chunks in seq order (P2, P5). No chunks: a position report. The lease runs on as it
    did (P15), unless the store has forgotten this claim: then it takes it up, and renews it.

    Chunks below ``next_seq`` must equal the log's (else ``conflict``) and are skipped. ``log_id``
    is the one of the claim: when the store has forgotten that claim and the fork it made, these
    chunks belong to no log that is left, and are fenced. Whatever was sent before without a
    reply, or has to be sent again, goes in one call: the store takes the owner's word that its
    log then has all that readers may have.

    ``reopen_tokens`` > 0 says that the owner's credit is used up once these are in the log, and
    that it wants to hear when ``acked_tokens`` reaches that count. The request is paused
    afterwards exactly when ``reopen_tokens > acked_tokens``; the position's acks tell the owner
    when they are there already, so no wake-up is lost. ``window`` is kept for the view alone
    (0: it does not bind): the rule that opens a window lives in ``protocol/window.py``.
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
    """The prompt has so many tokens: told once it is read, so that a request that is cancelled or
    reaped before its end has them too. ``model`` is what reads it (``View.model``): readers of an
    answer that goes on with another one than before are told (P15). OK or FENCED."""

    request_id: str
    owner: str
    epoch: int
    prompt_tokens: int
    model: str | None = None
    answers = Position


class Finish(NamedTuple):
    """End a request as done or failed (P13). GAP when the log does not reach ``next_seq``. Every
    key of the request expires ``retention_ms`` later."""

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
    """Hand a request back to the queue, in the place that it had (P15). The claim was no try of
    it, unless the engine ``failed``, or the owner did and another hands it back: a ``silent``
    owner may be alive, out of reach, and believe itself alone until its lease ends, so a claim
    before that forks the log (P3)."""

    request_id: str
    owner: str
    epoch: int
    why: Literal["failed", "silent"] | None = None
    answers = Position


class Reinstate(NamedTuple):
    """Give a request back to a store that has forgotten it with its data (P3).

    ``view`` is what its owner knows of it and ``chunks`` its log from seq 1 on, as far as the
    store is known to have had it. It is the owner's and generating then, under a new lease. One
    that the store has is left as it is: OK when it is still this owner's, else FENCED.
    """

    view: View
    body: str
    chunks: Sequence[Chunk]
    lease_ms: int
    answers = Position


class Renew(NamedTuple):
    """Renew leases of one partition (P15). A position for each, in order."""

    partition: int
    owner: str
    lease_ms: int
    leases: Sequence[tuple[str, int, str]]
    """request_id, epoch and log_id of each."""
    answers = list[Position]


class Silent(NamedTuple):
    """Owners that have no subscriber at the server whose life is ``run_id`` (P15). Of those who
    have renewed a lease within ``silent_ms`` nothing is claimed."""

    run_id: str
    silent_ms: int
    owners: tuple[str, ...]


class Others(NamedTuple):
    """Answers that another model than this one began are left to generators that have it, for so
    long since a claim first passed them over (P15.22)."""

    model: str
    left_ms: int


class Claim(NamedTuple):
    """Take the first request of the partition whose lease has lapsed, or whose owner has left, or
    that waits (P15); None when there is none.

    Counts it as a try (``View.tries``); with ``untried``, passes over those that have one. Forks
    the log when the store may have forgotten its tail (P4): the run id kept with the request is
    not this server's. ``next_seq`` may be 1 then, when all was forgotten.
    """

    partition: int
    owner: str
    lease_ms: int
    untried: bool = False
    silent: tuple[Silent, ...] = ()
    """Whose owners may have left: the store looks once more."""
    others: Others | None = None
    answers = cast("type[Claimed | None]", Claimed)


class Waiting(NamedTuple):
    """(place_ms, partition) of the first claimable request of each partition that has one, in the
    order of their places: queued ones, lapsed leases and those of owners that have left (P17). A
    server of a cluster that is away is left out, unless all are.

    Who says how long leases are has those shortened that would last longer from now on: the
    server's clock is another than that which gave them (P15).
    """

    lease_ms: int | None = None
    silent: tuple[Silent, ...] = ()
    answers = list[tuple[int, int]]


class Meet(NamedTuple):
    """Tell the other generators of this one (P15). The names of all that have told within
    ``keep_ms``; none when the store has an older library."""

    owner: str
    keep_ms: int
    answers = list[str]


# What a shell does with other means than the library.


class Look(NamedTuple):
    """Those of these owners whose own channels have a subscriber at the server of a partition
    (P15)."""

    partition: int
    owners: tuple[str, ...]
    answers = list[str]


class ReadLog(NamedTuple):
    """Read a whole log with token ids, for a takeover. Answer: its chunks."""

    request_id: str


class Guard(NamedTuple):
    """Subscribe to what the store tells the owner of a request. Answer: None once it is there."""

    request_id: str
    epoch: int


class Unguard(NamedTuple):
    """End that, unless another epoch's has taken its place. Nobody waits for an answer."""

    request_id: str
    epoch: int


# a reader's; ``subject`` says on whose behalf: somebody else's request is unknown to it


class Ack(NamedTuple):
    """The reader has everything up to a seq: OK or AHEAD (P9). Takes a paused request out of its
    pause once the acked tokens reach its ``reopen_tokens`` (P6), and tells its owner."""

    request_id: str
    seq: int
    subject: str | None = None
    answers = Position


class Readers(NamedTuple):
    """An edge says that its last reader of the request has left, or that it has one (P7): OK.

    Before there is any text, a request whose readers have left is unread: paused once it is owned,
    so that its prompt is not read. Later it changes nothing, nor for ack kind ``none``. An edge
    that reads an unread one says so: whatever overtakes what, a reader has the last word.
    """

    request_id: str
    here: Literal["left", "back"]
    answers = Position


class Cancel(NamedTuple):
    """Stop a request for good (P14): OK (also when cancelled before), or REFUSED when it ended
    otherwise. Raises the epoch, so that its owner is fenced. Expires ``retention_ms`` later."""

    request_id: str
    retention_ms: int
    subject: str | None = None
    answers = Position


class Forget(NamedTuple):
    """Delete a request and its log at once, after a cancel when it was live.

    Its followers hear that it ended, and find nothing when they look. For an hour nobody opens it
    again, nor gives it back to a store that has lost data since (P3).
    """

    request_id: str
    subject: str | None = None
    answers = Position


class Revive(NamedTuple):
    """Queue a reaped request again, continuing after its log (P16). REFUSED when not reaped."""

    request_id: str
    subject: str | None = None
    answers = Position


# the fleet's


class Reap(NamedTuple):
    """Reap a generating or paused request without progress for ``idle_ms`` (P16).

    REFUSED when it moved since, or is in another state. Raises the epoch, so that its owner is
    fenced. Expires ``retention_ms`` later unless it is revived before.
    """

    request_id: str
    idle_ms: int
    retention_ms: int
    answers = Position


class GiveUp(NamedTuple):
    """Give up the partition's answers that ended by then and are read, ``most`` of them, the
    oldest first (P17). How many were."""

    partition: int
    until_ms: int
    most: int
    answers = int
