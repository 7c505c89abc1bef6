"""From messages to the token ids of a prompt, whatever renders the chat template."""

from collections.abc import Callable, Mapping, Sequence

from jinja2 import TemplateError
from tokenizers import Tokenizer

from lore.messages import Message
from lore.protocol.lifecycle import INVALID_PROMPT
from lore_generator.engines import literal

ANOTHER_MODEL = "the answer so far was made by another model and cannot be continued"

Render = Callable[[list[dict[str, str]], Mapping[str, object]], str]
"""Renders a chat template for messages, with the beginning of the next answer. The second argument
is ``StreamRequest.template_args``. Raises TemplateError.
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


def prompt_ids(
    messages: Sequence[Message],
    tokenizer: Tokenizer,
    render: Render | None,
    args: Mapping[str, object] | None = None,
) -> list[int]:
    """The token ids of the conversation, in the form that the model was trained on. Only the
    template may write special tokens: in messages they are text.

    A model without a chat template gets ``plain_prompt``.
    """
    by = literal.stand_ins(tokenizer, (message.content for message in messages))
    hidden = [
        one.model_copy(update={"content": literal.hide(tokenizer, one.content, by)})
        for one in messages
    ]
    if render is None:
        return literal.encode(tokenizer, plain_prompt(hidden), by, add_special_tokens=True)
    try:
        text = render([{"role": m.role, "content": m.content} for m in hidden], args or {})
    except TemplateError as error:
        raise refused_by_template(error) from None
    # The template has already written the special tokens.
    return literal.encode(tokenizer, text, by, add_special_tokens=False)


def plain_prompt(messages: Sequence[Message]) -> str:
    """``User: …`` and ``Assistant: …`` as paragraphs, and the beginning of the next answer."""
    said = [f"{message.role.capitalize()}: {message.content}" for message in messages]
    return "\n\n".join([*said, "Assistant:"])
