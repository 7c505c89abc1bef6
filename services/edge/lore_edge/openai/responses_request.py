"""The body of ``POST /v1/responses``."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from lore.messages import Message, Text
from lore.request import Ack, KeptRequest, MaxTokens
from lore.request_limits import Limit, RequestLimits
from lore_edge.openai.errors import refused
from lore_edge.openai.messages import Content, Turn
from lore_edge.openai.neutral import ResponseNeutral
from lore_edge.openai.notes import ResponseNote, as_json
from lore_edge.openai.parameters import KINDS, Honoured, Parameters, check

NAMES = {"messages": "input", "max_tokens": "max_output_tokens"}
"""The names that the parameters of a ``KeptRequest`` have in a response."""


class Reference(Parameters):
    """An item that Lore answered, or was asked, by its id: it is looked up."""

    type: Literal["item_reference"] = "item_reference"
    id: Annotated[str, Field(min_length=1)]


def _kind(value: Any) -> str:
    if not isinstance(value, dict):
        return KINDS[0]
    is_reference = value.get("type") == "item_reference" or (
        "id" in value and not value.keys() & {"type", "role", "content"}
    )
    return KINDS[is_reference]


Item = Annotated[
    Annotated[Turn, Tag(KINDS[0])] | Annotated[Reference, Tag(KINDS[1])], Discriminator(_kind)
]
Items = Annotated[list[Item], Field(min_length=1), Limit("messages")]


def _items(value: Any) -> Any:
    return [{"role": "user", "content": value}] if isinstance(value, str) else value


class ResponseStreamOptions(Parameters):
    include_obfuscation: Literal[False] = False


class ResponseRequest(ResponseNeutral, Honoured):
    input: Annotated[
        Items,
        BeforeValidator(
            _items, json_schema_input_type=Annotated[Text, Field(min_length=1)] | Items
        ),
    ]
    previous_response_id: str | None = None
    instructions: Content | None = None
    stream_options: ResponseStreamOptions | None = None
    background: bool = False
    store: bool = True
    max_output_tokens: MaxTokens | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None

    def note(self, earlier: int) -> ResponseNote:
        names = ResponseNote.model_fields.keys() - {"api", "earlier"}
        return ResponseNote.model_validate(
            {name: getattr(self, name) for name in names} | {"earlier": earlier}
        )

    def kept(
        self, limits: RequestLimits, earlier: Sequence[Message], asked: Sequence[Message]
    ) -> KeptRequest:
        """The request to store. ``earlier`` is what ``previous_response_id`` stands for, ``asked``
        the ``input``.
        """
        system = [Message(role="system", content=self.instructions)] if self.instructions else []
        return KeptRequest(
            **self.sampling(),
            messages=[*system, *earlier, *asked],
            max_tokens=self.max_output_tokens or limits.max_tokens,
            open_ended=self.max_output_tokens is None,
            ack=Ack.NONE if self.background else Ack.SOCKET,
            note=as_json(self.note(len(earlier))),
        )


def parse(body: dict[str, Any], limits: RequestLimits) -> ResponseRequest:
    """Raises OpenAIError 400."""
    asked = check(ResponseRequest, ResponseNeutral, body, limits)
    if asked.background and not asked.store:
        raise refused(
            "invalid_value", "A background response has to be stored: set 'store'.", "store"
        )
    return asked
