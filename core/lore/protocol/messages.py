"""What the store sends to owners and followers: views, positions, messages.

``lore/store/types.py`` has the types of the store's other calls.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, final

from lore.protocol import fork
from lore.protocol.lifecycle import Status
from lore.protocol.logprobs import IDS, LOGPROBS, Scored


class Outcome(StrEnum):
    """How the store judged a call."""

    OK = "ok"
    FENCED = "fenced"  # another epoch owns the request, or nobody does any more: drop it
    GAP = "gap"  # the seq is not the next one: send again from Position.next_seq
    CONFLICT = "conflict"  # this seq is in the log with other content: a bug, drop the request
    FULL = "full"  # the queue of this partition is full (P17)
    AHEAD = "ahead"  # an ack for a chunk that the log does not have (P9)
    REFUSED = "refused"  # the lifecycle table has no such step from this state (P13)
    UNKNOWN = "unknown"  # no such request


@dataclass(frozen=True, slots=True)
class View:
    """Everything that the store knows of a request except its log and body. The defaults are those
    of a request that nobody has claimed.
    """

    request_id: str
    subject: str
    fingerprint: str
    ack: str
    status: Status
    owner: str = ""
    epoch: int = 0
    log_id: str = ""
    forks: str = ""
    """The older logs of the request, as ``protocol/fork.py`` writes them; '' for none."""
    next_seq: int = 1
    generated_tokens: int = 0
    """Tokens in the log."""
    acked_seq: int = 0
    acked_tokens: int = 0
    window: int = 0
    prompt_tokens: int = 0
    finish_reason: str = ""
    error: str = ""
    """The reason for the reader when the request failed, or ''."""
    created_ms: int = 0
    started_ms: int = 0
    """When it was first claimed; 0 before that."""
    progress_ms: int = 0
    """When an append or ack last made progress."""
    finished_ms: int = 0
    lease_until_ms: int = 0
    tries: int = 0
    """Claims since it last made progress: a chunk, a pause, or a hand-back (P15.16)."""
    trace: str = ""
    """The context of its trace (``lore.tracing``), or ''; opaque to the store."""
    written_off_tokens: int = 0
    """When it was reaped: the number of tokens up to which its generator has already counted read
    and wasted ones.
    """
    given_up_ms: int = 0
    """When its text was given up for lack of memory, after its readers had all of it (P17.9); 0
    before.
    """
    model: str = ""
    """The model whose tokens the log holds, with its revision (P15.19); '' when unknown."""

    @property
    def has_more(self) -> bool:
        """Whether its log holds more of a chunk than messages: log probabilities, token ids."""
        return self.fingerprint.endswith((LOGPROBS, IDS))

    def shared(self, log_id: str) -> int:
        """How many chunks of that log this one shares (P4)."""
        return fork.shared(log_id, current=self.log_id, forks=self.forks)

    @property
    def first_log_id(self) -> str:
        """The log that the request was accepted with (P4)."""
        return f"{self.created_ms:x}"


@dataclass(frozen=True, slots=True)
class Claimed:
    """A request that the caller now owns, with what it needs to continue."""

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


class News(NamedTuple):
    """What an owner hears about a request between its calls (channel ``b``)."""

    position: Position
    epoch: int
    """The epoch of the lease in question: an earlier lease of the same owner has another. 0 when an
    older library published it, which names none.
    """


# What edges hear about a request (channel ``n``).


@final
class ChunkMessage(NamedTuple):
    seq: int
    text: str
    tokens: int
    at_ms: int
    """When it was appended, by the store's clock."""
    log_id: str
    """The log that it was appended to. If the view shares fewer chunks with that log, one of the
    two is outdated: read the view again (P4).
    """
    scored: tuple[Scored, ...] = ()
    """The log probabilities of its tokens. Only the log has them: a live message leaves them out.
    """
    token_ids: tuple[int, ...] = ()
    prompt_ids: tuple[int, ...] | None = None
    """As of ``Chunk``. Only the log has both, and only if the request asks for them."""


@dataclass(frozen=True, slots=True)
class AckMessage:
    acked_seq: int
    acked_tokens: int


@dataclass(frozen=True, slots=True)
class StateMessage:
    """The state changed: claimed, paused, resumed, failed_over, other_model, released, reaped,
    revived, ended.

    ``reason`` is one of those words. The view has the details of an ended request.
    """

    status: Status
    reason: str


Message = ChunkMessage | AckMessage | StateMessage
