"""The interface of an engine: decode many requests, each up to a limit.

The window reaches the engine as *credit*: ``grant`` names the absolute number of generated tokens
that a request may reach, as QUIC's MAX_STREAM_DATA does (RFC 9000 section 4.1). An engine never
decodes past a grant, so the window (protocol P5) holds exactly, however late the service hears of a
token. A request that has used its credit is *parked*: it leaves the batch, its KV stays while
memory allows, and no other request slows down.

An engine decodes in a thread of its own. The service's event loop thread may call all methods;
except ``start`` and ``stop`` they return at once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from lore.protocol.logprobs import Scored
from lore.request import StreamRequest


@dataclass(frozen=True, slots=True)
class Job:
    """One request to decode, from its start or from where its log ends."""

    request_id: str
    request: StreamRequest
    generated_ids: tuple[int, ...] = ()
    """Tokens already in the log, in order. Decoding continues after them, with the detokeniser and
    the stop strings in the state that these tokens leave.
    """
    generated_text: str = ""
    """The text already in the log. The engine's text continues it exactly."""


class GivenUp(NamedTuple):
    """The engine gives up a request that has not ended: another generator may continue it (P15)."""

    reason: str
    failed: bool
    """Whether the engine failed, perhaps because of this request."""


class Piece(NamedTuple):
    """What one decoding step produced for one request.

    A piece with nothing but ``prompt_tokens`` may come first: the prompt is about to be read.
    ``text`` may be empty while a character or a possible stop string is incomplete.
    ``finish_reason`` is set on the last piece: ``stop``, ``length``, or one of
    ``lifecycle.FAILURES``. With the latter, ``error`` says why, for the reader.
    """

    request_id: str
    token_ids: tuple[int, ...] = ()
    text: str = ""
    finish_reason: str | None = None
    error: str | None = None
    prompt_tokens: int = 0
    scored: tuple[Scored, ...] = ()
    """One for each token id, if the request asks for log probabilities."""
    prompt_ids: tuple[int, ...] = ()
    """Beside ``prompt_tokens`` of the first piece, if the request asks for token ids."""
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
    """Grows with each decoding step, also with one that only reads prompts. If it stands still
    while requests have credit, the engine hangs.
    """
    servers_up: int = 0
    servers_down: int = 0
    """How many servers of a remote engine are down."""


Sink = Callable[[Sequence[Piece]], None]


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What the engine serves."""

    model: str
    slots: int
    """How many requests decode well side by side; the service claims no more unparked ones."""
    context_tokens: int
    tokenizer: str = ""
    """The tokenizer's file, if there is one on this machine."""
    revision: str = ""
    """Distinguishes its weights from others of that name; '' if only the name is known."""
    details: dict[str, str] = field(default_factory=dict[str, str])
    parts: str = ""
    """How it writes calls of tools and reasoning (``lore.parts.formats``)."""
    switches: str = ""
    """How its chat template lets a caller switch reasoning (``lore.template_args.SWITCHES``)."""
    pauses: bool = True
    """Whether a request that has used its credit goes on cheaply, so that slots may be shared by
    pace (P20).
    """

    @property
    def identity(self) -> str:
        """The model and its revision, as stored with each request that it answers (P15.19)."""
        return f"{self.model}@{self.revision}" if self.revision else self.model


class Engine(Protocol):
    def start(self, sink: Sink) -> EngineInfo:
        """Load the model and start decoding. Blocks until ready; called in a worker thread.

        The engine's own thread calls ``sink`` once for each decoding step, with the pieces of all
        requests that progressed. Raises ValueError with one clear line when the model cannot be
        loaded.
        """
        ...

    def submit(self, job: Job, limit: int | None) -> None:
        """Take a request. ``limit``: see ``grant``.

        A request that cannot be honoured (prompt too long for the context, unknown token) is
        answered by a piece with a reason of ``lifecycle.FAILURES``, not by an exception here.
        """
        ...

    def grant(self, request_id: str, limit: int | None) -> None:
        """Allow decoding until ``limit`` tokens are generated in all, those in the log included.

        None means no limit. Limits only grow. Wakes the decoding thread at once. Unknown requests
        are ignored, because they may just have finished.
        """
        ...

    def hold(self, request_id: str) -> None:
        """Stop reading the prompt, and decode nothing, until the next ``grant``. Its KV stays as
        for a parked request. A step under way may still produce a token.
        """
        ...

    def park(self, request_id: str, ahead_tokens: int) -> None:
        """The request has used its credit, and is so far ahead of its reader. When memory is short,
        those furthest ahead lose their KV first.
        """
        ...

    def cancel(self, request_id: str) -> None:
        """Drop the request at the next step; it produces no more pieces."""
        ...

    def stats(self) -> EngineStats:
        """Returns at once, also when the decoding thread hangs."""
        ...

    def alive(self) -> bool:
        """False when the decoding thread has died."""
        ...

    def trouble(self) -> str:
        """Why the engine cannot take requests at the moment, in one line, or ''. It may recover."""
        ...

    def stop(self) -> None:
        """Stop decoding and release the model. Blocks; called in a worker thread."""
        ...
