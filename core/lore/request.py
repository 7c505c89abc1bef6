"""The body of ``POST /v1/streams``: validated once, and kept with the request.

The edge validates it, the store keeps its JSON without parsing it, and the generator reads it back.
Every parameter is either honoured or refused by name; none is ignored.
"""

import hashlib
import json
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticKnownError

from lore.request_limits import DEFAULT_MAX_TOKENS, Limit, placeholder
from lore.template_args import TemplateArgs

MAX_WINDOW_TOKENS = 1024


class Ack(StrEnum):
    """Who acknowledges (protocol P8)."""

    CLIENT = "client"
    SOCKET = "socket"
    NONE = "none"


Stop = Annotated[str, Field(min_length=1, max_length=64)]
Stops = Annotated[list[Stop], Field(max_length=4)]
Text = Annotated[str, Limit("message_chars")]
MaxTokens = Annotated[int, Field(ge=1), Limit("max_tokens")]
Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]],
    Field(max_length=16),
]
"""What a client wants to get back with its answer; opaque to Lore."""


def context_exceeded(prompt_tokens: int, context_tokens: int) -> str:
    """The message for a prompt that is too long. It contains the words by which clients recognize
    the error and shorten their history.
    """
    return (
        "The prompt is too long and exceeds the context window: this model's maximum context "
        f"length is {context_tokens} tokens, and the messages have at least {prompt_tokens}. "
        "Please reduce the length of the messages."
    )


def check_content(role: object, content: str) -> str:
    """Check a message's content. Answers and instructions may be empty; an empty user message is a
    mistake.
    """
    if not content and role == "user":
        raise PydanticKnownError("string_too_short", {"min_length": 1})
    return content


def content_schema(schema: dict[str, Any]) -> None:
    """The check of ``check_content`` as JSON schema."""
    schema["anyOf"] = [
        {"properties": {"role": {"not": {"const": "user"}}}},
        {"properties": {"content": {"minLength": 1}}},
    ]


class Message(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        json_schema_extra=content_schema,
    )

    role: Literal["system", "user", "assistant"]
    content: Text

    @field_validator("content")
    @classmethod
    def _not_empty(cls, content: str, info: ValidationInfo) -> str:
        return check_content(info.data.get("role"), content)


class StreamRequest(BaseModel):
    """A question, the ``messages`` that an answer is to follow, or a question after messages, with
    the sampling parameters."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        hide_input_in_errors=True,  # otherwise a logged error would contain the prompt
    )

    question: Annotated[Text, Field(min_length=1)] | None = None
    messages: Annotated[list[Message], Field(min_length=1), Limit("messages")] | None = None
    max_tokens: Annotated[
        MaxTokens, Field(json_schema_extra={"default": placeholder("default_max_tokens")})
    ] = DEFAULT_MAX_TOKENS
    """Unset, what the edge is set to."""
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.7
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.9
    top_k: Annotated[int, Field(ge=0, le=1_000)] = 50
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    """Tokens less likely than this part of the likeliest are not drawn; unset, none is left out."""
    repetition_penalty: Annotated[float, Field(ge=0.1, le=2)] = 1.1
    no_repeat_ngram_size: Annotated[int, Field(ge=0, le=32)] = 0
    stop: Stops = []
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    ack: Annotated[Ack, Field(strict=False)] = Ack.CLIENT
    window: Annotated[int, Field(ge=1, le=MAX_WINDOW_TOKENS)] | None = None
    """A fixed window in tokens. Unset, the window adapts (protocol P6)."""
    metadata: Metadata | None = None
    template_args: TemplateArgs | None = None
    """More for the model's chat template, as ``{"enable_thinking": false}``."""

    def fingerprint(self) -> str:
        """A hash that is the same for two bodies that ask for the same. It must match an older
        release's, so parameters that such a release does not know count only if they are given.
        """
        newer = {"template_args"} if self.template_args is None else set[str]()
        text = self.model_dump_json(exclude=newer)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def kept_json(self) -> str:
        """The JSON that the store keeps. An older release refuses a body with an unknown parameter,
        but does not look into ``note``: new parameters are kept there.
        """
        kept = self.model_dump(mode="json", exclude_none=True)
        args = kept.pop("template_args", None)
        if args is not None:
            kept["note"] = {**kept.get("note", {}), "template_args": args}
        return json.dumps(kept, ensure_ascii=False, separators=(",", ":"))

    def conversation(self) -> list[Message]:
        """The messages, then the question."""
        asked = [] if self.question is None else [Message(role="user", content=self.question)]
        return [*(self.messages or ()), *asked]

    def expected_tokens(self, default: int) -> int:
        """How many tokens the answer counts for until it has ended; ``default`` if the request does
        not say.
        """
        del default
        return self.max_tokens

    @field_validator("stop", mode="before", json_schema_input_type=Stop | Stops)
    @classmethod
    def _one_stop(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _question_or_messages(self) -> Self:
        if self.question is None and self.messages is None:
            raise ValueError("give a 'question', 'messages', or both")
        return self


class KeptRequest(StreamRequest):
    """A request as the store keeps it, and the generator reads it."""

    note: dict[str, JsonValue] | None = None
    """What the edge wants to get back with the answer; opaque to others. No reader of the native
    API can set it.
    """

    @classmethod
    def read(cls, body: str) -> Self:
        """Parse what ``kept_json`` wrote. Raises ValidationError for what an incompatible version
        kept.
        """
        kept = cls.model_validate_json(body)
        args = (kept.note or {}).get("template_args")
        return kept.model_copy(update={"template_args": args}) if args else kept

    open_ended: bool = False
    """Whether the request sets no limit: ``max_tokens`` is then only the maximum of the edge."""

    def expected_tokens(self, default: int) -> int:
        return min(self.max_tokens, default) if self.open_ended else self.max_tokens
