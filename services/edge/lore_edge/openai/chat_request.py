"""The body of ``POST /v1/chat/completions``."""

from typing import Annotated, Any, Literal

from pydantic import Field

from lore.request import AckKind, KeptRequest, MaxTokens
from lore.request_limits import Limit, RequestLimits
from lore.template_args import TemplateArgs
from lore_edge.openai import answer_format, logprobs
from lore_edge.openai.answer_format import ChatFormat
from lore_edge.openai.errors import refused
from lore_edge.openai.messages import Turn
from lore_edge.openai.neutral import ChatNeutral
from lore_edge.openai.notes import ChatNote
from lore_edge.openai.parameters import (
    Effort,
    Honoured,
    OfMessages,
    Parameters,
    Place,
    Seed,
    StopSequences,
    check,
    kept_or_refused,
)
from lore_edge.openai.tools import ChatTool, Choice, asked_for


class ChatStreamOptions(Parameters):
    include_usage: bool = False
    include_obfuscation: Literal[False] = False
    continuous_usage_stats: Literal[False] = False


def _place(ours: Place) -> Place:
    """In a chat, what a tool and a named choice say is in their ``function``."""
    match ours:
        case ("tools", int(number), *inside):
            return ("tools", number, "function", *inside)
        case ("tool_choice", *inside) if inside:
            return ("tool_choice", "function", *inside)
        case _:
            return ours


class OfChoices(Honoured):
    """What the calls that answer with choices honour."""

    stream_options: ChatStreamOptions | None = None
    stop: StopSequences = Field(default=[])
    seed: Seed | None = None

    @property
    def include_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)


class ChatRequest(ChatNeutral, OfMessages, OfChoices):
    messages: Annotated[list[Turn], Field(min_length=1), Limit("messages")]
    tools: list[ChatTool] = Field(default=[])
    tool_choice: Choice | None = None
    response_format: ChatFormat | None = None
    logprobs: bool = False
    reasoning_effort: Effort | None = None
    max_tokens: MaxTokens | None = None
    max_completion_tokens: MaxTokens | None = None
    store: bool = False

    @property
    def note(self) -> ChatNote:
        return ChatNote(model=self.model, include_usage=self.include_usage, metadata=self.metadata)

    @kept_or_refused(_place)
    def kept(self, limits: RequestLimits, more: TemplateArgs | None = None) -> KeptRequest:
        """``more``: arguments of the template that stand for other parameters."""
        limit = self.max_completion_tokens or self.max_tokens
        return KeptRequest(
            **self.sampling(),
            template_args={**(more or {}), **self.chat_template_kwargs} or None,
            **asked_for(self.tools, self.tool_choice, self.parallel_tool_calls),
            response_format=answer_format.asked_for(self.response_format),
            logprobs=self.top_logprobs if self.logprobs else None,
            messages=[turn.message() for turn in self.messages],
            max_tokens=limit or limits.max_tokens,
            open_ended=limit is None,
            stop=self.stop,
            seed=self.seed,
            ack=AckKind.SOCKET,
            note=self.note.model_dump(mode="json"),
        )


def parse(body: dict[str, Any], limits: RequestLimits) -> ChatRequest:
    """Raises OpenAIError 400."""
    asked = check(ChatRequest, ChatNeutral, body, limits)
    if len({asked.max_tokens, asked.max_completion_tokens} - {None}) > 1:
        raise refused(
            "invalid_parameter_combination",
            "Setting 'max_tokens' and 'max_completion_tokens' to two values is not supported.",
            "max_tokens",
        )
    logprobs.check(wanted=asked.logprobs, top=asked.top_logprobs, needs="'logprobs'")
    return asked
