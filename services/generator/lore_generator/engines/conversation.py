"""From messages to the token ids of a prompt, whatever renders the chat template."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jinja2 import TemplateError
from tokenizers import Tokenizer

from lore.protocol.lifecycle import CONTEXT_EXCEEDED, INVALID_PROMPT
from lore.request import StreamRequest, context_exceeded
from lore_generator.engine import Job
from lore_generator.engines import literal, turns
from lore_generator.engines.turns import Json

ANOTHER_MODEL = "the answer so far was made by another model and cannot be continued"

TAIL = 8
"""Tokens at the end of a prompt that have the template's last words."""

Render = Callable[[list[Json], list[Json], Mapping[str, object]], str]
"""Renders a chat template for messages and tools, with the beginning of the next answer. The third
argument is ``StreamRequest.template_args``. Raises TemplateError.
"""


class Refused(Exception):
    """The request cannot be decoded. The message is for its reader; the reason is one of
    ``lifecycle.FAILURES``.
    """

    def __init__(self, message: str, reason: str = INVALID_PROMPT) -> None:
        super().__init__(message)
        self.reason = reason


def refused_by_template(error: object) -> Refused:
    return Refused(f"the model's chat template refuses these messages: {error}")


def check_known(
    prompt: Sequence[int], done: Sequence[int], vocabulary: int | None, context_tokens: int
) -> None:
    """Raises ``Refused`` for a prompt that the model cannot read, and for a log whose tokens,
    ``done``, are another model's.
    """
    if len(prompt) >= context_tokens:
        raise Refused(context_exceeded(len(prompt), context_tokens), CONTEXT_EXCEEDED)
    if not prompt:
        raise Refused("prompt: it has no tokens")
    if vocabulary is not None and (most := max(prompt)) >= vocabulary:
        raise Refused(f"prompt: the model has no token {most}; its ids are 0 to {vocabulary - 1}")
    if vocabulary is not None and max(done, default=0) >= vocabulary:
        raise Refused(ANOTHER_MODEL, "error")


def behind_log(job: Job, said: str) -> str:
    """What the log's tokens say that its text does not have yet. Raises ``Refused`` for a log of
    another model.
    """
    if not said.startswith(job.generated_text):
        raise Refused(ANOTHER_MODEL, "error")
    return said[len(job.generated_text) :]


def prompt_ids(request: StreamRequest, tokenizer: Tokenizer, render: Render | None) -> list[int]:
    """The token ids of the conversation, in the form that the model was trained on. Only the
    template may write special tokens: in messages and tools they are text.

    A model without a chat template gets ``plain_prompt``. A raw prompt is continued as it is,
    behind the tokens with which the tokenizer begins a text.
    """
    if isinstance(request.prompt, list):
        return request.prompt
    if request.prompt is not None:
        return tokenizer.encode(request.prompt, add_special_tokens=True).ids
    messages, tools = request.conversation(), turns.functions(request)
    turned = turns.conversation(messages)
    by = literal.stand_ins(tokenizer, turns.texts([turned, tools]))

    def hidden(value: Any) -> Any:
        return turns.with_texts(value, lambda text: literal.hide(tokenizer, text, by))

    if render is None:
        if tools or any(one.role == "tool" or one.tool_calls for one in messages):
            raise Refused("the model has no chat template, and knows no tools")
        return literal.encode(tokenizer, plain_prompt(hidden(turned)), by, add_special_tokens=True)
    try:
        text = render(hidden(turned), hidden(tools), request.template_args or {})
    except TemplateError as error:
        raise refused_by_template(error) from None
    # The template has already written the special tokens.
    return literal.encode(tokenizer, text, by, add_special_tokens=False)


def plain_prompt(conversation: Sequence[Json]) -> str:
    """``User: …`` and ``Assistant: …`` as paragraphs, and the beginning of the next answer."""
    said = [f"{turn['role'].capitalize()}: {turn['content']}" for turn in conversation]
    return "\n\n".join([*said, "Assistant:"])
