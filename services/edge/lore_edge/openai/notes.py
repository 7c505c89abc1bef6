"""What is kept with a request, so that any edge can tell of its answer what it was asked for."""

from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, JsonValue

from lore.request import KeptRequest

Note = TypeVar("Note", "ChatNote", "ResponseNote")


class ChatNote(BaseModel):
    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    api: Literal["chat"] = "chat"
    model: str
    include_usage: bool


class ResponseNote(BaseModel):
    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    api: Literal["responses"] = "responses"
    model: str
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


def as_json(note: ChatNote | ResponseNote) -> dict[str, JsonValue]:
    return note.model_dump(mode="json")


def note_of(kept: KeptRequest, kind: type[Note]) -> Note | None:
    """None when the request did not come by this API."""
    if kept.note is None or kept.note.get("api") != kind.model_fields["api"].default:
        return None
    return kind.model_validate(kept.note)
