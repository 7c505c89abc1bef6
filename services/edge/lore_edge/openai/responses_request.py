"""The body of ``POST /v1/responses``."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Discriminator, Field, Tag

from lore.messages import CallId, Message, Text
from lore.request import AckKind, KeptRequest, MaxTokens
from lore.request_limits import Limit, RequestLimits
from lore.template_args import TemplateArgs
from lore_edge.openai import answer_format, logprobs
from lore_edge.openai.answer_format import TextOptions
from lore_edge.openai.errors import refused
from lore_edge.openai.messages import Content, Turn
from lore_edge.openai.neutral import ResponseNeutral
from lore_edge.openai.notes import ResponseNote
from lore_edge.openai.parameters import (
    KINDS,
    Effort,
    OfMessages,
    Parameters,
    Place,
    check,
    kept_or_refused,
)
from lore_edge.openai.tools import Choice, ResponseCall, ResponseTool, asked_for


class Reference(Parameters):
    """An item that Lore answered, or was asked, by its id: it is looked up."""

    type: Literal["item_reference"] = "item_reference"
    id: Annotated[str, Field(min_length=1)]


class Result(Parameters):
    """What a tool answered."""

    type: Literal["function_call_output"]
    id: str | None = None
    status: str | None = None
    call_id: CallId
    output: Content

    def message(self) -> Message:
        return Message(role="tool", tool_call_id=self.call_id, content=self.output)


class Thoughts(Parameters):
    """An earlier answer's reasoning: it is not shown to a model again."""

    model_config = ConfigDict(extra="allow")

    type: Literal["reasoning"]


_KINDS = {
    "item_reference": KINDS[1],
    "function_call": KINDS[2],
    "function_call_output": KINDS[3],
    "reasoning": KINDS[4],
}


def _kind(value: Any) -> str:
    if not isinstance(value, dict):
        return KINDS[0]
    if isinstance(kind := value.get("type"), str) and kind in _KINDS:
        return _KINDS[kind]
    is_reference = value.get("type") == "item_reference" or (
        "id" in value and not value.keys() & {"type", "role", "content"}
    )
    return KINDS[is_reference]


Item = Annotated[
    Annotated[Turn, Tag(KINDS[0])]
    | Annotated[Reference, Tag(KINDS[1])]
    | Annotated[ResponseCall, Tag(KINDS[2])]
    | Annotated[Result, Tag(KINDS[3])]
    | Annotated[Thoughts, Tag(KINDS[4])],
    Discriminator(_kind),
]
Items = Annotated[list[Item], Field(min_length=1), Limit("messages")]


def _items(value: Any) -> Any:
    return [{"role": "user", "content": value}] if isinstance(value, str) else value


class Reasoning(Parameters):
    """Reasoning is shown as it is, without a summary, and not to the model again."""

    effort: Effort | None = None
    mode: Literal["standard"] | None = None
    context: Literal["auto", "current_turn", "all_turns"] | None = None


class ResponseStreamOptions(Parameters):
    include_obfuscation: Literal[False] = False


LOGPROBS = "message.output_text.logprobs"
Included = Literal[
    "message.output_text.logprobs",
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
    "reasoning.encrypted_content",
]
"""What a response is to include. All but the first are of items that no answer of Lore's has."""


def _place(ours: Place) -> Place:
    """The items of an input are others than the messages."""
    return ("input",) if ours[0] == "messages" else ours


class ResponseRequest(ResponseNeutral, OfMessages):
    input: Annotated[
        Items,
        BeforeValidator(
            _items, json_schema_input_type=Annotated[Text, Field(min_length=1)] | Items
        ),
    ]
    previous_response_id: str | None = None
    instructions: Content | None = None
    tools: list[ResponseTool] = Field(default=[])
    tool_choice: Choice | None = None
    text: TextOptions | None = None
    reasoning: Reasoning | None = None
    include: list[Included] = Field(default=[])
    stream_options: ResponseStreamOptions | None = None
    background: bool = False
    store: bool = True
    max_output_tokens: MaxTokens | None = None

    @property
    def reasoning_effort(self) -> str | None:
        return self.reasoning.effort if self.reasoning else None

    @property
    def wants_logprobs(self) -> bool:
        return LOGPROBS in self.include

    def note(self, earlier: int) -> ResponseNote:
        names = ResponseNote.model_fields.keys() - {"api", "earlier"}
        return ResponseNote.model_validate(
            {name: getattr(self, name) for name in names} | {"earlier": earlier}
        )

    @kept_or_refused(_place)
    def kept(
        self,
        limits: RequestLimits,
        earlier: Sequence[Message],
        asked: Sequence[Message],
        more: TemplateArgs | None = None,
    ) -> KeptRequest:
        """The request to store. ``earlier`` is what ``previous_response_id`` stands for, ``asked``
        the ``input``, and ``more`` are arguments of the template that stand for other parameters.
        """
        args = {**(more or {}), **self.chat_template_kwargs}
        system = [Message(role="system", content=self.instructions)] if self.instructions else []
        return KeptRequest(
            **self.sampling(),
            template_args=args or None,
            **asked_for(self.tools, self.tool_choice, self.parallel_tool_calls),
            response_format=answer_format.asked_for(self.text.format if self.text else None),
            logprobs=self.top_logprobs if self.wants_logprobs else None,
            messages=[*system, *earlier, *asked],
            max_tokens=self.max_output_tokens or limits.max_tokens,
            open_ended=self.max_output_tokens is None,
            ack=AckKind.NONE if self.background else AckKind.SOCKET,
            note=self.note(len(earlier)).model_dump(mode="json"),
        )


def parse(body: dict[str, Any], limits: RequestLimits) -> ResponseRequest:
    """Raises OpenAIError 400."""
    asked = check(ResponseRequest, ResponseNeutral, body, limits)
    logprobs.check(
        wanted=asked.wants_logprobs, top=asked.top_logprobs, needs=f"'{LOGPROBS}' in 'include'"
    )
    if asked.background and not asked.store:
        raise refused(
            "invalid_value", "A background response has to be stored: set 'store'.", "store"
        )
    return asked
