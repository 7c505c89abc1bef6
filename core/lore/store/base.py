"""The interface of the store, with an in-memory twin and Valkey behind it.

Every change of a request's state is one command, an atomic call that validates before it writes,
is idempotent, and is fenced by the lease epoch (protocol P2, P13, P15). Times are the
store's own clock in milliseconds, so that no decision compares two machines' clocks.
Publications are hints and may be lost; the log is the truth. The commands are in
``protocol/commands.py`` and ``types.py``, the words of their answers in ``protocol/messages.py``.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

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
"""Appends, each with what its caller knows it by."""
Answers = Sequence[int | Position]
"""To each append of a step: the tokens acknowledged so far when it went as it should, so that it
changed nothing but the log; else where the request is."""
Tell = Callable[[Step, Answers | Exception], None]


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
    """All calls raise StoreUnavailable when the store is away."""

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

    def do(self, command: Command[T]) -> Awaitable[T]:
        """Carry a command out."""
        ...

    def append(self, step: Step, tell: Tell) -> None:
        """Append what a decoding step brought, all of it one owner's. ``tell`` is called later,
        once for those that one server has judged, or with why there is no answer."""
        ...

    # readers' side

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

    async def log(self, request_id: str) -> list[Chunk]:
        """The whole log with token ids, for a takeover."""
        ...

    async def appear(self, owner: str) -> None:
        """Subscribe to this generator's own channels, so that it is missed when it ends (P15).
        Also in partitions whose server is away, once it is there."""
        ...

    async def guard(self, request_id: str, listener: OwnerListener) -> None: ...

    async def unguard(self, request_id: str) -> None: ...

    async def on_wake(self, listener: WakeListener) -> None: ...

    # the fleet's side

    async def live(self, *, limit: int = 1000) -> list[View]:
        """Live and reaped-but-kept requests are not told apart here: all whose progress is
        tracked (queued, generating, paused), longest without progress first. A server of a
        cluster that is away is left out, unless all are."""
        ...

    async def queue_depth(self) -> int: ...

    async def vitals(self) -> Vitals: ...
