"""The body of ``POST /v1/chat/completions``."""

from typing import Annotated, Any, Literal

from pydantic import Field

from lore.request import MAX_MESSAGES, MAX_TOKENS, Ack, KeptRequest
from lore_edge.openai.errors import refused
from lore_edge.openai.notes import ChatNote, as_json
from lore_edge.openai.parameters import (
    MaxTokens,
    Metadata,
    Neutral,
    Parameters,
    StopSequences,
    Temperature,
    TopP,
    Turn,
    check,
)

NEUTRAL: Neutral = {
    "audio": (),
    "frequency_penalty": (0,),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "logit_bias": ({},),
    "logprobs": (False,),
    "modalities": (["text"],),
    "moderation": (),
    "n": (1,),
    "parallel_tool_calls": (True, False),
    "prediction": (),
    "presence_penalty": (0,),
    "prompt_cache_options": (),
    "prompt_cache_retention": (),
    "reasoning_effort": ("none",),
    "response_format": ({"type": "text"},),
    "service_tier": ("auto", "default"),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_logprobs": (0,),
    "verbosity": ("medium",),
    "web_search_options": (),
}


class ChatStreamOptions(Parameters):
    include_usage: bool = False
    include_obfuscation: Literal[False] = False


class ChatRequest(Parameters):
    """What is sampled by is OpenAI's default where nothing is said, and not Lore's."""

    messages: Annotated[list[Turn], Field(min_length=1, max_length=MAX_MESSAGES)]
    model: str
    stream: bool = False
    stream_options: ChatStreamOptions | None = None
    stop: StopSequences = Field(default=[])
    max_tokens: MaxTokens | None = None
    max_completion_tokens: MaxTokens | None = None
    temperature: Temperature = 1.0
    top_p: TopP = 1.0
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    metadata: Metadata = Field(default={})
    store: bool = False

    @property
    def note(self) -> ChatNote:
        options = self.stream_options
        return ChatNote(model=self.model, include_usage=bool(options and options.include_usage))

    def kept(self) -> KeptRequest:
        limit = self.max_completion_tokens or self.max_tokens
        return KeptRequest(
            messages=[turn.message() for turn in self.messages],
            max_tokens=limit or MAX_TOKENS,
            open_ended=limit is None,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=0,
            repetition_penalty=1.0,
            stop=self.stop,
            seed=None if self.seed is None else self.seed % 2**63,
            ack=Ack.SOCKET,
            note=as_json(self.note),
        )


def parse(body: dict[str, Any]) -> ChatRequest:
    """Raises OpenAIError 400."""
    asked = check(ChatRequest, body, NEUTRAL)
    if asked.stream_options is not None and not asked.stream:
        raise refused(
            "invalid_value",
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
            "stream_options",
        )
    if asked.max_tokens is not None and asked.max_completion_tokens is not None:
        raise refused(
            "invalid_parameter_combination",
            "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
            "max_tokens",
        )
    return asked
