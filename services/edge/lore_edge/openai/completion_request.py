"""The body of ``POST /v1/completions``: a prompt that the model continues as it is."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from lore.request import AckKind, KeptRequest, MaxTokens, Prompt
from lore.request_limits import RequestLimits
from lore.tools import TopLogprobs
from lore_edge.openai.chat_request import OfChoices
from lore_edge.openai.neutral import CompletionNeutral
from lore_edge.openai.notes import CompletionNote
from lore_edge.openai.parameters import check, kept_or_refused

MAX_TOKENS = 16
"""The default of OpenAI and of other servers for ``max_tokens``."""


def _only_one(value: Any) -> Any:
    """The prompt in a list of one; a list of numbers is one prompt."""
    if not isinstance(value, list) or not all(isinstance(one, str | list) for one in value):
        return value
    if len(value) < 2:
        return value[0] if value else value
    raise PydanticCustomError(
        "unsupported_value",
        "Lore takes one prompt in a call, and not {count}",
        {"count": len(value)},
    )


class CompletionRequest(CompletionNeutral, OfChoices):
    prompt: Annotated[
        Prompt,
        BeforeValidator(
            _only_one,
            json_schema_input_type=Prompt
            | Annotated[list[Prompt], Field(min_length=1, max_length=1)],
        ),
    ]
    max_tokens: MaxTokens = MAX_TOKENS
    logprobs: TopLogprobs | None = None
    """How many of the likeliest tokens are told beside each token."""
    return_token_ids: bool = False
    """Not OpenAI's, but vLLM's."""

    @property
    def note(self) -> CompletionNote:
        return CompletionNote(
            model=self.model, include_usage=self.include_usage, metadata=self.metadata
        )

    @kept_or_refused()
    def kept(self, limits: RequestLimits) -> KeptRequest:
        return KeptRequest(
            **self.sampling(),
            prompt=self.prompt,
            max_tokens=min(self.max_tokens, limits.max_tokens),
            stop=self.stop,
            seed=self.seed,
            logprobs=self.logprobs,
            return_token_ids=self.return_token_ids or None,
            ack=AckKind.SOCKET,
            note=self.note.model_dump(mode="json"),
        )


def parse(body: dict[str, Any], limits: RequestLimits) -> CompletionRequest:
    """Raises OpenAIError 400."""
    return check(CompletionRequest, CompletionNeutral, body, limits)
