"""What a reader asks for: the body of ``POST /v1/streams``, checked once and kept with the request.

The edge validates it, the store keeps its JSON without looking inside, and the
generator reads it back. Every parameter here is honoured or refused with its name;
none is dropped in silence.
"""

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

MAX_WINDOW_TOKENS = 1024
MAX_PROMPT_CHARS = 100_000
MAX_TOKENS = 32_768
DEFAULT_MAX_TOKENS = 512
MAX_MESSAGES = 256


class Ack(StrEnum):
    """Who acknowledges (protocol P8)."""

    CLIENT = "client"
    SOCKET = "socket"
    NONE = "none"


Stop = Annotated[str, Field(min_length=1, max_length=64)]
Stops = Annotated[list[Stop], Field(max_length=4)]


class Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    role: Literal["system", "user", "assistant"]
    content: Annotated[str, Field(min_length=1, max_length=MAX_PROMPT_CHARS)]


class StreamRequest(BaseModel):
    """One question with its sampling parameters. Exactly one of ``question`` and ``messages``."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        hide_input_in_errors=True,  # else an error that is logged tells the prompt
    )

    question: Annotated[str, Field(min_length=1, max_length=MAX_PROMPT_CHARS)] | None = None
    messages: Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS)] = DEFAULT_MAX_TOKENS
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.7
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.9
    top_k: Annotated[int, Field(ge=0, le=1_000)] = 50
    repetition_penalty: Annotated[float, Field(ge=0.1, le=2)] = 1.1
    no_repeat_ngram_size: Annotated[int, Field(ge=0, le=32)] = 0
    stop: Stops = []
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    ack: Annotated[Ack, Field(strict=False)] = Ack.CLIENT
    window: Annotated[int, Field(ge=1, le=MAX_WINDOW_TOKENS)] | None = None
    """A fixed window in tokens. Unset, the window adapts (protocol P6)."""

    @property
    def expected_tokens(self) -> int:
        """How long the answer counts for until it has ended."""
        return self.max_tokens

    @field_validator("stop", mode="before", json_schema_input_type=Stop | Stops)
    @classmethod
    def _one_stop(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _question_or_messages(self) -> Self:
        if (self.question is None) == (self.messages is None):
            raise ValueError("give exactly one of 'question' and 'messages'")
        return self


class KeptRequest(StreamRequest):
    """A request as the store keeps it, and the generator reads it."""

    note: dict[str, JsonValue] | None = None
    """What the edge wants to find with the answer again. Nobody else looks inside, and no
    reader of the native API can set it."""
    open_ended: bool = False
    """Nobody said how long the answer may be: ``max_tokens`` is only the most that there is."""

    @property
    def expected_tokens(self) -> int:
        return min(self.max_tokens, DEFAULT_MAX_TOKENS) if self.open_ended else self.max_tokens
