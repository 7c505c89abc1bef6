"""What Lore asks of its store: one interface, an in-memory twin and Valkey behind it.

Every change of a request's state is one atomic call that validates before it writes,
is idempotent, and is fenced by the lease epoch (protocol P2, P13, P15). Times are the
store's own clock in milliseconds, so that no decision compares two machines' clocks.
Publications are hints and may be lost; the log is the truth. The words of these calls are in
``types.py`` and ``protocol/messages.py``, and can be had from here.
"""

from collections.abc import Awaitable, Mapping, Sequence
from typing import Protocol

from lore.protocol.chunk import Chunk
from lore.protocol.commands import Finish
from lore.protocol.messages import (
    AckMessage,
    ChunkMessage,
    Claimed,
    Message,
    News,
    Outcome,
    Position,
    StateMessage,
    View,
)
from lore.store.types import Admission, Limits, NewRequest, Opened, StoreUnavailable, Vitals

__all__ = [
    "AckMessage",
    "Admission",
    "ChunkMessage",
    "Claimed",
    "Limits",
    "Listener",
    "Message",
    "NewRequest",
    "News",
    "Opened",
    "Outcome",
    "OwnerListener",
    "Position",
    "StateMessage",
    "Store",
    "StoreUnavailable",
    "View",
    "Vitals",
    "WakeListener",
]


class Listener(Protocol):
    """Called on the event loop; must return at once."""

    def on_message(self, message: Message) -> None: ...

    def on_reset(self) -> None:
        """The subscription was lost and is back: anything may have been missed, read the log."""
        ...


class OwnerListener(Protocol):
    """What an owner hears about a request (channel ``b``): look at it now.

    The position carries the acks; its outcome is OK when an ack opened a closed window
    and FENCED when the request was cancelled or reaped. It may be about an older lease.
    """

    def on_news(self, news: News) -> None: ...


class WakeListener(Protocol):
    def on_wake(self, partition: int | None) -> None:
        """A request waits in ``partition``; None when wake-ups may have been missed."""
        ...


class Store(Protocol):
    """All calls raise StoreUnavailable when the store is away.

    ``window=0`` everywhere means that the window does not bind.
    """

    def run_id(self, partition: int) -> str:
        """Names the life as primary of the server that has a partition. Another than before may
        have forgotten anything of it."""
        ...

    def is_ready(self, partition: int) -> bool:
        """Whether both connections to the server that has a partition are up: it answers calls,
        and what is published there is heard. What a store could tell meanwhile was heard too."""
        ...

    async def connect(self) -> None: ...

    async def close(self) -> None: ...

    # readers' side; ``subject`` says on whose behalf: somebody else's request is UNKNOWN to it

    async def admit(
        self, client: str, request_id: str, limits: Limits, *, tokens: int = 0, quantum_ms: int = 0
    ) -> Admission:
        """Count a request that is about to be opened, if it is within all limits (P17).

        Refused, nothing counts; counted already, it does not count again. ``tokens`` is what it
        may use: prompt and answer. ``quantum_ms`` is how far apart a client's requests stand in
        the queue; 0 for all at their time.
        """
        ...

    async def settle(self, client: str, used_tokens: Mapping[str, int | None]) -> None:
        """These requests of the client have ended: they are no streams any more, and count for
        the tokens that they used, for what they might have used when that is None."""
        ...

    async def leave(self, client: str, request_id: str) -> None:
        """This request was admitted and has not come to be: it counts for nothing."""
        ...

    async def open(self, new: NewRequest, *, queue_limit: int) -> Opened:
        """Accept a request into its partition's queue, or find the one that has this id.

        ``queue_limit`` bounds how many may wait in the partition; FULL creates nothing. From
        half of that on, FULL is said to those whose own requests ahead, over all partitions,
        are as many as the free places. A request that is there already is returned with
        ``created=False``; one that was deleted within the hour is UNKNOWN.
        """
        ...

    async def view(self, request_id: str) -> View | None: ...

    async def body(self, request_id: str) -> str | None: ...

    async def read(
        self, request_id: str, *, after: int, limit: int = 1000, known: View | None = None
    ) -> list[ChunkMessage]:
        """Chunks with seq > ``after``, in order, at most ``limit``.

        A caller who decides nothing by what is missing says what it has ``known`` of the
        request: a replica may then serve what is whole by it.
        """
        ...

    async def ack(self, request_id: str, seq: int, *, subject: str | None = None) -> Position:
        """OK, AHEAD or UNKNOWN (P9). Takes a paused request out of its pause once the acked
        tokens reach its ``reopen_tokens`` (P6), and tells its owner."""
        ...

    async def cancel(
        self, request_id: str, *, retention_ms: int, subject: str | None = None
    ) -> Position:
        """OK (also when cancelled before), REFUSED when it ended otherwise, UNKNOWN.

        Raises the epoch, so that its owner is fenced. Expires ``retention_ms`` later.
        """
        ...

    async def revive(self, request_id: str, *, subject: str | None = None) -> Position:
        """Queue a reaped request again, continuing after its log. REFUSED when not reaped."""
        ...

    async def forget(self, request_id: str, *, subject: str | None = None) -> Position:
        """Delete a request and its log at once, after a cancel when it was live. OK or UNKNOWN.

        Its followers hear that it ended, and find nothing when they look. For an hour nobody
        opens it again, nor gives it back to a store that has lost data since (P3).
        """
        ...

    async def follow(self, request_id: str, listener: Listener) -> None:
        """Returns once the subscription is in place, so that a log read after it misses nothing."""
        ...

    async def unfollow(self, request_id: str, listener: Listener) -> None: ...

    # what is found without a request's id: hints, to be looked at before they count

    async def list_request(self, subject: str, request_id: str, *, keep_ms: int) -> None:
        """Let the subject find this request, for ``keep_ms`` after its last one; ``MAX_LISTED``
        of them."""
        ...

    async def listed(self, subject: str, *, start: int, limit: int) -> list[str]:
        """Ids of the subject's requests, newest first; some may be gone."""
        ...

    async def note_attempt(self, mark: str, request_id: str, *, window_ms: int) -> None:
        """This request was made for a body with this mark, which may be sent again."""
        ...

    async def attempted(self, mark: str) -> str | None:
        """The request of this mark that was longest not asked for; the next call finds another,
        so that equal bodies that are sent again find each their own."""
        ...

    async def tell_model(self, facts: Mapping[str, str], *, keep_ms: int) -> None:
        """What a generator says of the model that it serves."""
        ...

    async def model_fact(self, name: str) -> str | None:
        """What the last generator said; None when none has within its ``keep_ms``."""
        ...

    # generators' side

    async def claim(
        self, partition: int, owner: str, *, lease_ms: int, untried: bool = False
    ) -> Claimed | None:
        """Take the first request of the partition whose lease has lapsed, or that waits.

        Counts it as a try (``View.tries``); with ``untried``, passes over those that have one.
        Forks the log when the store may have forgotten its tail (P4): the run id kept with
        the request is not this server's. ``next_seq`` may be 1 then, when all was forgotten.
        """
        ...

    async def log(self, request_id: str) -> list[Chunk]:
        """The whole log with token ids, for a takeover."""
        ...

    def append(
        self,
        request_id: str,
        owner: str,
        epoch: int,
        chunks: Sequence[Chunk],
        *,
        log_id: str,
        window: int,
        reopen_tokens: int,
        lease_ms: int,
    ) -> Awaitable[Position]:
        """Append chunks in seq order and renew the lease (P2, P15). No chunks: a position report.

        Chunks below ``next_seq`` must equal the log's (else CONFLICT) and are skipped.
        ``log_id`` is the one of the claim: when the store has forgotten that claim and the
        fork it made, these chunks belong to no log that is left, and the reply is FENCED.
        Whatever was sent before without a reply, or has to be sent again, goes in one call:
        the store takes the owner's word that its log then has all that readers may have.

        ``reopen_tokens`` > 0 says that the owner's credit is used up once these are in the
        log, and that it wants to hear when ``acked_tokens`` reaches that count. The request
        is paused afterwards exactly when ``reopen_tokens > acked_tokens``; the reply's acks
        tell the owner when they are there already, so no wake-up is lost. ``window`` is kept
        for the view alone: the rule that opens a window lives in protocol/window.py.
        """
        ...

    async def prompt(self, request_id: str, owner: str, epoch: int, prompt_tokens: int) -> Position:
        """The prompt has so many tokens: told once it is read, so that a request that is
        cancelled or reaped before its end has them too. OK, FENCED or UNKNOWN."""
        ...

    async def finish(self, command: Finish) -> Position:
        """End a request as done or failed. GAP when the log does not reach ``next_seq``.

        Repeating it is OK. Every key of the request expires ``retention_ms`` later.
        """
        ...

    async def renew(
        self, partition: int, owner: str, leases: Sequence[tuple[str, int, str]], *, lease_ms: int
    ) -> list[Position]:
        """Renew many (request_id, epoch, log_id) of one partition; one Position each, in order."""
        ...

    async def reinstate(
        self, view: View, body: str, chunks: Sequence[Chunk], *, lease_ms: int
    ) -> Position:
        """Give a request back to a store that has forgotten it with its data (P3).

        ``view`` is what its owner knows of it and ``chunks`` its log from seq 1 on, as far as
        the store is known to have had it. It is the owner's and generating then, under a new
        lease. One that the store has is left as it is: OK when it is still this owner's, else
        FENCED.
        """
        ...

    async def release(
        self,
        request_id: str,
        owner: str,
        epoch: int,
        *,
        failed: bool = False,
        silent: bool = False,
    ) -> Position:
        """Hand a request back to the queue, in the place that it had. The claim was no try of
        it, unless the engine ``failed``, or the owner did and another hands it back.
        A ``silent`` owner may be alive, out of reach, and believe itself alone until its lease
        ends: a claim before that forks the log (P3)."""
        ...

    async def waiting(self, *, lease_ms: int = 0) -> list[tuple[int, int]]:
        """(place_ms, partition) of the first claimable request of each partition that has one,
        in the order of their places: queued ones and lapsed leases. A server of a cluster that
        is away is left out, unless all are.

        Who says how long leases are has those shortened that would last longer from now on: the
        server's clock is another than that which gave them (P15)."""
        ...

    async def guard(self, request_id: str, listener: OwnerListener) -> None: ...

    async def unguard(self, request_id: str) -> None: ...

    async def on_wake(self, listener: WakeListener) -> None: ...

    # the fleet's side

    async def reap(self, request_id: str, *, idle_ms: int, retention_ms: int) -> Position:
        """Reap a generating or paused request without progress for ``idle_ms`` (P16).

        REFUSED when it moved since, or is in another state. Raises the epoch, so that its
        owner is fenced. Expires ``retention_ms`` later unless it is revived before.
        """
        ...

    async def live(self, *, limit: int = 1000) -> list[View]:
        """Live and reaped-but-kept requests are not told apart here: all whose progress is
        tracked (queued, generating, paused), longest without progress first. A server of a
        cluster that is away is left out, unless all are."""
        ...

    async def queue_depth(self) -> int: ...

    async def vitals(self) -> Vitals: ...
