"""The interface of the store. An in-memory twin and Valkey implement it.

Every change of a request's state is one command: an atomic call that validates before it writes, is
idempotent, and is fenced by the lease's epoch (protocol P2, P13, P15). Times are the store's own
clock in milliseconds, so that no decision compares two machines' clocks. Publications are hints and
may be lost; the log is the truth. The commands are in ``protocol/commands.py`` and ``types.py``,
the types of their answers in ``protocol/messages.py``.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from lore.protocol.chunk import Chunk
from lore.protocol.commands import Append, Command
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
    "Answers",
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
    "Step",
    "Store",
    "StoreUnavailable",
    "Tell",
    "View",
    "Vitals",
    "WakeListener",
]

T = TypeVar("T")

Step = Sequence[tuple[Any, Append]]
"""Appends, each with a key by which its caller recognizes it."""


class Answers(NamedTuple):
    """What one server answered to the appends of a step."""

    run_id: str
    """The life of the server (``Store.run_id``)."""
    each: Sequence[int | Position]
    """For each append, the tokens acknowledged so far if it changed nothing but the log, else the
    request's position.
    """


Tell = Callable[[Step, Answers | Exception], None]


class Listener(Protocol):
    """A follower of a request. Called on the event loop; must return at once."""

    def on_message(self, message: Message) -> None: ...

    def on_reset(self) -> None:
        """The lost subscription is back: anything may have been missed, so read the log."""
        ...


class OwnerListener(Protocol):
    """Hears what the store publishes to an owner of a request (channel ``b``).

    The position has the acks. Its outcome is OK when an ack opened a closed window, and FENCED when
    the request was cancelled or reaped. The news may be about an older lease.
    """

    def on_news(self, news: News) -> None: ...


class WakeListener(Protocol):
    def on_wake(self, partition: int | None) -> None:
        """A request waits in ``partition``; None when wake-ups may have been missed."""
        ...


class Store(Protocol):
    """The store. All calls raise StoreUnavailable when it is away."""

    def run_id(self, partition: int) -> str:
        """The life of the server that has a partition, as primary. A server in another life may
        have forgotten any part of the partition's data.
        """
        ...

    def is_ready(self, partition: int) -> bool:
        """Whether both connections to the server that has a partition are up: it answers calls, and
        what it publishes is heard. Then nothing published since was missed.
        """
        ...

    async def connect(self) -> None: ...

    async def close(self) -> None: ...

    def do(self, command: Command[T]) -> Awaitable[T]:
        """Carry out a command and return its answer."""
        ...

    def append(self, step: Step, tell: Tell) -> None:
        """Append what a decoding step produced, all of one owner. ``tell`` is called later, once
        for the appends that one server has judged, with their answers or with the reason why there
        are none.
        """
        ...

    # readers' side

    async def view(self, request_id: str) -> View | None: ...

    async def body(self, request_id: str) -> str | None: ...

    async def read(
        self, request_id: str, *, after: int, limit: int = 1000, known: View | None = None
    ) -> list[ChunkMessage]:
        """Chunks with seq > ``after``, in order, at most ``limit``.

        A caller that decides nothing by missing chunks may pass the view that it has ``known``:
        then a replica may serve the chunks if none is missing by that view (P4.14).
        """
        ...

    async def follow(self, request_id: str, listener: Listener) -> None:
        """Subscribe a listener. Returns once the subscription is in place, so that a log read
        afterwards misses nothing.
        """
        ...

    def unfollow(self, request_id: str, listener: Listener) -> None:
        """Never call the listener again; an unknown one is ignored. Raises StoreUnavailable when
        the server could not be told, because its connection is gone and the subscription with it.
        """
        ...

    # look-ups without a request's id: hints, to be checked before they count

    async def list_request(self, subject: str, request_id: str, *, keep_ms: int) -> None:
        """List a request for the subject, for ``keep_ms`` after the subject's last one;
        ``MAX_LISTED`` at most.
        """
        ...

    async def listed(self, subject: str, *, start: int, limit: int) -> list[str]:
        """Ids of the subject's requests, newest first; some may be gone."""
        ...

    async def note_attempt(self, mark: str, request_id: str, *, window_ms: int) -> None:
        """Note that this request was made for a body with this mark, which may be sent again."""
        ...

    async def attempted(self, mark: str) -> str | None:
        """The request with this mark that was asked for least recently. The next call finds
        another, so that each retry of several equal calls finds a request of its own (O12).
        """
        ...

    async def tell_model(self, facts: Mapping[str, str], *, keep_ms: int) -> None:
        """Publish what a generator knows of the model that it serves."""
        ...

    async def model_fact(self, name: str) -> str | None:
        """A fact that a generator published last; None when none did within its ``keep_ms``."""
        ...

    # generators' side

    async def log(self, request_id: str) -> list[Chunk]:
        """The whole log with token ids, for a takeover."""
        ...

    async def appear(self, owner: str) -> None:
        """Subscribe to this generator's own channels, so that others notice its end (P15.10). In
        partitions whose server is away, this happens once it is there.
        """
        ...

    async def subscribe(self, request_id: str, listener: OwnerListener) -> None: ...

    async def unsubscribe(self, request_id: str) -> None: ...

    async def on_wake(self, listener: WakeListener) -> None: ...

    # operator's side

    async def live(self, *, limit: int = 1000) -> list[View]:
        """The requests whose progress is tracked (queued, generating, paused), longest without
        progress first. Servers of a cluster that are away are left out, unless all are.
        """
        ...

    async def queue_depth(self) -> int: ...

    async def vitals(self) -> Vitals: ...
