"""The body of ``POST /v1/responses``."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from lore.request import MAX_MESSAGES, MAX_TOKENS, Ack, KeptRequest, Message
from lore_edge.openai.errors import refused
from lore_edge.openai.notes import ResponseNote, as_json
from lore_edge.openai.parameters import (
    Content,
    MaxTokens,
    Metadata,
    Neutral,
    Parameters,
    Temperature,
    Text,
    TopP,
    Turn,
    check,
)

NAMES = {"messages": "input", "max_tokens": "max_output_tokens"}
"""What a response calls the parameters of a ``KeptRequest``."""

NEUTRAL: Neutral = {
    "access_programs": (),
    "background_options": (),
    "context_management": ([],),
    "conversation": (),
    "image": (),
    "include": ([],),
    "max_tool_calls": (),
    "moderation": (),
    "parallel_tool_calls": (True, False),
    "previous_response_id": (),
    "prompt": (),
    "prompt_cache_options": (),
    "prompt_cache_retention": (),
    "reasoning": ({}, {"effort": "none"}),
    "service_tier": ("auto", "default"),
    "text": (
        {},
        {"format": {"type": "text"}},
        {"verbosity": "medium"},
        {"format": {"type": "text"}, "verbosity": "medium"},
    ),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_logprobs": (0,),
    "truncation": ("disabled",),
}


Turns = Annotated[list[Turn], Field(min_length=1, max_length=MAX_MESSAGES - 1)]
"""With the instructions, no more than a request may have."""


def _turns(value: Any) -> Any:
    return [{"role": "user", "content": value}] if isinstance(value, str) else value


class ResponseStreamOptions(Parameters):
    include_obfuscation: Literal[False] = False


class ResponseRequest(Parameters):
    """What is sampled by is OpenAI's default where nothing is said, and not Lore's."""

    input: Annotated[
        Turns,
        BeforeValidator(_turns, json_schema_input_type=Text | Turns),
    ]
    model: str
    instructions: Content | None = None
    stream: bool = False
    stream_options: ResponseStreamOptions | None = None
    background: bool = False
    store: bool = True
    max_output_tokens: MaxTokens | None = None
    temperature: Temperature = 1.0
    top_p: TopP = 1.0
    metadata: Metadata = Field(default={})
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None

    @property
    def note(self) -> ResponseNote:
        return ResponseNote.model_validate(
            {name: getattr(self, name) for name in ResponseNote.model_fields if name != "api"}
        )

    def kept(self) -> KeptRequest:
        system = [Message(role="system", content=self.instructions)] if self.instructions else []
        return KeptRequest(
            messages=[*system, *(turn.message() for turn in self.input)],
            max_tokens=self.max_output_tokens or MAX_TOKENS,
            open_ended=self.max_output_tokens is None,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=0,
            repetition_penalty=1.0,
            ack=Ack.NONE if self.background else Ack.SOCKET,
            note=as_json(self.note),
        )


def parse(body: dict[str, Any]) -> ResponseRequest:
    """Raises OpenAIError 400."""
    asked = check(ResponseRequest, body, NEUTRAL)
    if asked.background and not asked.store:
        raise refused(
            "invalid_value", "A background response has to be stored: set 'store'.", "store"
        )
    if asked.stream_options is not None and not asked.stream:
        raise refused(
            "invalid_value",
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
            "stream_options",
        )
    return asked
