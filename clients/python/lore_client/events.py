"""The events of a stream, and the errors of an answer that is not complete."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Wire(BaseModel):
    """A message of the protocol. Fields that a newer edge adds are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class Text(Wire):
    """The next piece of the answer: it follows exactly what came before."""

    seq: Annotated[int, Field(ge=1)]
    text: str
    tokens: int = 0
    """How many tokens the answer has up to here. An older edge does not say: each piece then counts
    as one.
    """


class State(Wire):
    """The request's state changed; see PROTOCOL.md for the reasons."""

    status: str
    reason: str = ""
    log_id: str = ""
    edge: str = ""
    window: int = 0
    acked_seq: int = 0
    generated_tokens: int = 0
    rto_ms: float | None = None
    retransmits: int = 0
    silence_ms: int = 0
    """How many ms the edge may be silent; 0 when it does not say."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection is lost; the stream goes on by itself at another edge, after ``delay_s``
    seconds.
    """

    edge: str
    why: str
    delay_s: float


@dataclass(frozen=True, slots=True)
class HeldBack:
    """Something on the way holds the stream back: what follows is read in finished responses, and a
    stream is tried again later (P18).
    """

    edge: str


class Usage(Wire):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


class End(Wire):
    """The answer is complete (``done``), or ended otherwise, as ``status`` says."""

    status: str
    finish_reason: str | None = None
    error: str | None = None
    last_seq: Annotated[int, Field(ge=0)]
    usage: Usage = Usage()


Event = Text | State | Lost | HeldBack | End


class Poll(Wire):
    """The answer to a poll: what follows a position, in a finished response (P18)."""

    log_id: str
    after: Annotated[int, Field(ge=0)]
    seq: Annotated[int, Field(ge=0)]
    text: str
    tokens: int | None
    state: State
    end: End | None


class View(Wire):
    """A request as JSON: its state and the text so far."""

    request_id: str
    status: str
    text: str = ""
    log_id: str = ""
    next_seq: int = 1
    acked_seq: int = 0
    generated_tokens: int = 0
    acked_tokens: int = 0
    window: int = 0
    prompt_tokens: int = 0
    finish_reason: str | None = None
    error: str | None = None
    stream_url: str = ""
    edge: str = ""


class ErrorDetail(Wire):
    code: str
    message: str
    field: str | None = None


class LoreError(Exception):
    """The base of everything that this client raises by design."""


class Refused(LoreError):
    """The edge refused, and a retry would not help (HTTP 4xx)."""

    def __init__(self, status: int, detail: ErrorDetail) -> None:
        super().__init__(detail.message)
        self.status = status
        self.code = detail.code
        self.field = detail.field


class Unavailable(LoreError):
    """No edge answered, or all were too busy, within the caller's patience."""


class Failed(LoreError):
    """The request failed; the message is the reason."""


class Cancelled(LoreError):
    """Somebody stopped the request. The text before that is all there is."""


class HistoryLost(LoreError):
    """The store has lost text that this reader already has, so it cannot be continued (P4)."""
