"""The interface of an engine: decode many requests, each up to a limit.

The window reaches the engine as *credit*: ``grant`` names the absolute number of
generated tokens a request may reach, as QUIC's MAX_STREAM_DATA does (RFC 9000
section 4.1). An engine never decodes past a grant, so the window (protocol P5)
holds exactly, however late the service hears of a token. A request that has used its
credit is *parked*: it leaves the batch, its KV stays while memory allows, and no
other request slows down.

An engine runs its decoding in a thread of its own. All methods but ``run`` callbacks
may be called from the service's event loop thread and return at once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from lore.request import StreamRequest


class InvalidRequest(Exception):
    """The engine cannot honour what is asked; ``field`` names the parameter."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.message = message


@dataclass(frozen=True, slots=True)
class Job:
    """One request to decode, from its start or from where its log ends."""

    request_id: str
    request: StreamRequest
    generated_ids: tuple[int, ...] = ()
    """Tokens already in the log, in order: decoding continues after them, with the
    detokeniser and the stop strings in the state that they left."""
    generated_text: str = ""
    """The text already in the log. What the engine emits continues it exactly."""


class GivenUp(NamedTuple):
    """The engine is done with a request that has not ended: another may go on with it (P15)."""

    reason: str
    failed: bool
    """The engine failed, and what it was working on may be why."""


class Piece(NamedTuple):
    """What one decoding step brought for one request.

    A piece with nothing but ``prompt_tokens`` may come before: the prompt is about to be read.
    ``text`` may be empty while a character or a possible stop string is incomplete.
    ``finish_reason`` is set on the last piece: ``stop``, ``length``, or one of
    ``lifecycle.FAILURES``; ``error`` then says what a reader may know.
    """

    request_id: str
    token_ids: tuple[int, ...] = ()
    text: str = ""
    finish_reason: str | None = None
    error: str | None = None
    prompt_tokens: int = 0
    given_up: GivenUp | None = None
    """Set on the last piece of a request that is to be handed back."""


@dataclass(frozen=True, slots=True)
class EngineStats:
    """A snapshot for metrics: requests decoding, parked and waiting; KV memory in use, 0 to 1."""

    running: int = 0
    parked: int = 0
    waiting: int = 0
    kv_used_ratio: float = 0.0
    steps: int = 0
    """Grows with each decoding step, also with one that only reads prompts; whoever finds it
    standing still while requests have credit takes the engine for hung."""
    servers_up: int = 0
    servers_down: int = 0
    """Of an engine that is driven over HTTP."""


Sink = Callable[[Sequence[Piece]], None]


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What the engine serves."""

    model: str
    slots: int
    """Requests that decode well side by side; the service claims no more unparked ones."""
    context_tokens: int
    tokenizer: str = ""
    """The tokenizer's file, where there is one on this machine."""
    revision: str = ""
    """Tells its weights from others of that name; '' where the name is all that is known."""
    details: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def identity(self) -> str:
        """What travels with a request whose answer it made (P15)."""
        return f"{self.model}@{self.revision}" if self.revision else self.model


class Engine(Protocol):
    def start(self, sink: Sink) -> EngineInfo:
        """Load the model and start decoding. Blocks until ready; called in a worker thread.

        ``sink`` is called from the engine's own thread, once a decoding step, with the
        pieces of all requests that moved. Raises ValueError with one clear line when the
        model cannot be loaded.
        """
        ...

    def submit(self, job: Job, limit: int | None) -> None:
        """Take a request. ``limit``: see ``grant``.

        A request that cannot be honoured (prompt too long for the context, unknown token)
        is answered by a piece with a reason of ``lifecycle.FAILURES``, not by an exception here.
        """
        ...

    def grant(self, request_id: str, limit: int | None) -> None:
        """Allow decoding until ``limit`` tokens are generated in all, log included.

        None means no limit. Limits only grow. Wakes the decoding thread at once.
        Unknown requests are ignored: they may just have finished.
        """
        ...

    def hold(self, request_id: str) -> None:
        """Read its prompt no further, and decode nothing, until the next ``grant``; its KV stays
        as of one that is parked. A step that is under way may still bring a token."""
        ...

    def cancel(self, request_id: str) -> None:
        """Drop the request at the next step; no further pieces come for it."""
        ...

    def stats(self) -> EngineStats:
        """Returns at once, also when the decoding thread hangs."""
        ...

    def alive(self) -> bool:
        """False when the decoding thread has died."""
        ...

    def trouble(self) -> str:
        """Why it can take no request for now, in one line, or ''. It may get over it."""
        ...

    def stop(self) -> None:
        """Stop decoding and release the model. Blocks; called in a worker thread."""
        ...
