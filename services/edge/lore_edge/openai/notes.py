"""What is stored with a request, so that any edge can describe what its response was asked."""

from collections.abc import Mapping
from typing import ClassVar, Literal, TypeVar

import structlog
from pydantic import BaseModel, ConfigDict

from lore import logs
from lore.request import KeptRequest
from lore.store.base import View
from lore_edge.wire.errors import request_lost

_log = structlog.get_logger()

Note = TypeVar("Note", bound="_Note")


class _Note(BaseModel):
    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    title: ClassVar[str]
    """What its objects are called."""
    prefix: ClassVar[str]
    """How their ids begin."""
    names: ClassVar[Mapping[str, str]] = {}
    """The names that the parameters of a ``KeptRequest`` have in this API, where they differ."""

    model: str


class ChoiceNote(_Note):
    """Of the APIs that answer with choices."""

    include_usage: bool
    metadata: dict[str, str] = {}


class ChatNote(ChoiceNote):
    title = "Chat completion"
    prefix = "chatcmpl-"

    api: Literal["chat"] = "chat"


class CompletionNote(ChoiceNote):
    title = "Completion"
    prefix = "cmpl-"
    names = {"messages": "prompt"}

    api: Literal["completions"] = "completions"


class ResponseNote(_Note):
    title = "Response"
    prefix = "resp_"
    names = {
        "response_format": "text.format",
        "messages": "input",
        "max_tokens": "max_output_tokens",
        "logprobs": "include",
        "reasoning_effort": "reasoning.effort",
    }

    api: Literal["responses"] = "responses"
    instructions: str | None
    background: bool
    store: bool
    max_output_tokens: int | None
    temperature: float
    top_p: float
    metadata: dict[str, str]
    user: str | None
    safety_identifier: str | None
    prompt_cache_key: str | None
    previous_response_id: str | None = None
    reasoning_effort: str | None = None
    earlier: int = 0
    """How many of the messages ``previous_response_id`` stood for."""


def kept_with_note(body: str, kind: type[Note], view: View) -> tuple[KeptRequest, Note | None]:
    """A stored request and its note; the note is None when the request did not come by this API.

    Raises ApiError 410 for what cannot be read, because another version stored it or it was
    damaged.
    """
    try:
        kept = KeptRequest.read(body)
        if kept.note is None or kept.note.get("api") != kind.model_fields["api"].default:
            return kept, None
        return kept, kind.model_validate(kept.note)
    except ValueError:
        _log.error("kept request unreadable", **logs.of(view))
        raise request_lost() from None
