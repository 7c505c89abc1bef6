"""The body of ``POST /v1/streams``: validated once, and kept with the request.

The edge validates it, the store keeps its JSON without parsing it, and the generator reads it back.
Every parameter is either honoured or refused by name; none is ignored.
"""

import hashlib
import json
from enum import StrEnum
from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    JsonValue,
    Tag,
    field_validator,
    model_validator,
)

from lore.messages import Message, Text, check_results, found_at
from lore.parts import formats
from lore.parts.formats import Format
from lore.protocol.logprobs import IDS, LOGPROBS
from lore.request_limits import DEFAULT_MAX_TOKENS, Limit, placeholder
from lore.template_args import TemplateArgs
from lore.tools import NamedTool, ResponseFormat, ToolChoice, Tools, TopLogprobs

MAX_WINDOW_TOKENS = 1024
MAX_PACE = 1000
"""Tokens a second."""


class AckKind(StrEnum):
    """Who acknowledges (protocol P8)."""

    CLIENT = "client"
    SOCKET = "socket"
    NONE = "none"


Stop = Annotated[str, Field(min_length=1, max_length=64)]
Stops = Annotated[list[Stop], Field(max_length=4)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
MaxTokens = Annotated[int, Field(ge=1), Limit("max_tokens")]
TokenId = Annotated[int, Field(ge=0, lt=2**31)]
Prompt = Annotated[
    Annotated[str, Field(min_length=1), Limit("message_chars"), Tag("str")]
    | Annotated[list[TokenId], Field(min_length=1), Limit("prompt_ids"), Tag("list")],
    Discriminator(
        lambda value: type(value).__name__,
        custom_error_type="invalid_type",
        custom_error_message="expected a text or a list of token ids",
    ),
]
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
        f"length is {context_tokens} tokens, and the prompt has at least {prompt_tokens}. "
        "Please reduce the length of the messages."
    )


NEWER = (
    "presence_penalty",
    "frequency_penalty",
    "prompt",
    "template_args",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "response_format",
    "logprobs",
    "return_token_ids",
    "pace",
    "parts",
)
"""Parameters that an older release does not know."""
UNSEEN = ("template_args", "pace", "parts")
"""Those of them that it may ignore."""


class StreamRequest(BaseModel):
    """A question, the ``messages`` that an answer is to follow, a question after messages, or a
    ``prompt`` to continue, with the sampling parameters."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        hide_input_in_errors=True,  # otherwise a logged error would contain the prompt
    )

    question: Annotated[Text, Field(min_length=1)] | None = None
    messages: (
        Annotated[
            list[Message], Field(min_length=1), Limit("messages"), AfterValidator(check_results)
        ]
        | None
    ) = None
    prompt: Prompt | None = None
    """What the model is to continue as it is, without its chat template. The special tokens that a
    text names are in it.
    """
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
    presence_penalty: Penalty | None = None
    """Subtracted from the scores of tokens that the answer has, before the temperature."""
    frequency_penalty: Penalty | None = None
    """The same for each time that the answer has them."""
    no_repeat_ngram_size: Annotated[int, Field(ge=0, le=32)] = 0
    stop: Stops = []
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    ack: Annotated[AckKind, Field(strict=False)] = AckKind.CLIENT
    window: Annotated[int, Field(ge=1, le=MAX_WINDOW_TOKENS)] | None = None
    """A fixed window in tokens. Unset, the window adapts (protocol P6)."""
    pace: Annotated[float, Field(ge=0, le=MAX_PACE)] | None = None
    """The most tokens a second that the reader takes, while other requests wait (protocol P20); 0
    for a machine, which takes all it can get. Unset, what the edge is set to."""
    metadata: Metadata | None = None
    template_args: TemplateArgs | None = None
    """More for the model's chat template, as ``{"enable_thinking": false}``."""
    tools: Tools | None = None
    tool_choice: ToolChoice | None = None
    """Unset, ``auto`` where there are tools."""
    parallel_tool_calls: bool | None = None
    """False: at most one call. Unset, the model may make several."""
    response_format: ResponseFormat | None = None
    logprobs: TopLogprobs | None = None
    """Keep the log probability of each token, and of so many others that were likely."""
    return_token_ids: bool | None = None
    """Show the token ids of the prompt and of each chunk."""

    def fingerprint(self) -> str:
        """A hash that is the same for two bodies that ask for the same. It must match an older
        release's, so parameters that such a release does not know count only if they are given.
        """
        newer = {name for name in NEWER if getattr(self, name, None) is None} | {"parts"}
        text = self.model_dump_json(exclude=newer, by_alias=True)
        digest = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
        # Everybody who follows the request sees it there (``View.has_more``).
        digest += IDS if self.return_token_ids else ""
        return digest if self.logprobs is None else digest + LOGPROBS

    def kept_json(self, parts: str = "") -> str:
        """The JSON that the store keeps. A generator of an older release fails a request with an
        unknown parameter. It must do so if tools, a format or log probabilities are asked for.
        It does not look into ``note``: parameters that it may ignore are kept there.

        ``parts``: as of ``KeptRequest``, for a request that has none yet.
        """
        given = {name for name in type(self).model_fields if getattr(self, name) is not None}
        kept = self.model_dump(mode="json", include=given, by_alias=True)
        unseen = {name: kept.pop(name, None) for name in UNSEEN}
        unseen["parts"] = unseen["parts"] or parts or None
        if told := {name: value for name, value in unseen.items() if value is not None}:
            kept["note"] = {**kept.get("note", {}), **told}
        return json.dumps(kept, ensure_ascii=False, separators=(",", ":"))

    def form(self) -> Format:
        """How the parts of its answer are written, as far as they are asked for."""
        return Format()

    @property
    def callable_names(self) -> frozenset[str]:
        """The tools that its answer may call."""
        if self.tool_choice == "none":
            return frozenset()
        return frozenset(tool.name for tool in self.tools or ())

    @property
    def constraint(self) -> str | None:
        """The parameter that the form of the answer is bound by, if there is one."""
        if self.tool_choice not in (None, "auto", "none"):
            return "tool_choice"
        return None if self.response_format is None else "response_format"

    @property
    def asked_in(self) -> str:
        """The parameter that has what is asked, or most of it."""
        return next(name for name in ("prompt", "messages", "question") if getattr(self, name))

    def texts(self) -> list[str]:
        """What is asked, as text; nothing for a prompt of token ids."""
        raw = [self.prompt] if isinstance(self.prompt, str) else []
        return [*raw, *(message.content for message in self.conversation())]

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
    def _choice_of_a_tool(self) -> Self:
        choice, names = self.tool_choice, [tool.name for tool in self.tools or ()]
        if choice in (None, "auto", "none"):
            return self
        if not names:
            raise found_at("tool_choice", "there are no tools")
        if isinstance(choice, NamedTool) and choice.name not in names:
            raise found_at("tool_choice.name", "no tool has this name")
        return self

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        if self.prompt is None:
            if self.question is None and self.messages is None:
                raise ValueError("give a 'question', 'messages', or both, or a 'prompt'")
            return self
        for name in OF_MESSAGES:
            if getattr(self, name) is not None:
                raise found_at("prompt", f"a prompt is continued as it is, without '{name}'")
        return self


OF_MESSAGES = ("question", "messages", "template_args", "tools", "tool_choice")
"""What makes a prompt of messages."""


class KeptRequest(StreamRequest):
    """A request as the store keeps it, and the generator reads it."""

    note: dict[str, JsonValue] | None = None
    """What the edge wants to get back with the answer; opaque to others. No reader of the native
    API can set it.
    """

    parts: str | None = None
    """The format of the answer's parts (``lore.parts.formats``). The edge that accepts the request
    sets it, so that every edge derives the same parts from the text.
    """

    @classmethod
    def read(cls, body: str) -> Self:
        """Parse what ``kept_json`` wrote. Raises ValueError for what an incompatible version
        kept.
        """
        kept = cls.model_validate_json(body)
        note = kept.note or {}
        unseen = {name: note[name] for name in UNSEEN if note.get(name)}
        formats.read(str(unseen.get("parts", "")))
        return kept.model_copy(update=unseen) if unseen else kept

    def form(self) -> Format:
        whole = formats.read(self.parts or "")
        return whole if self.callable_names else whole._replace(tools="")

    open_ended: bool = False
    """Whether the request sets no limit: ``max_tokens`` is then only the maximum of the edge."""

    def expected_tokens(self, default: int) -> int:
        return min(self.max_tokens, default) if self.open_ended else self.max_tokens
