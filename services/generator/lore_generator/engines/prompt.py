"""From a job to token ids: the chat template, and the log of an answer already begun."""

from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import TemplateError
from transformers.tokenization_utils_tokenizers import TokenizersBackend

from lore.protocol.lifecycle import CONTEXT_EXCEEDED, INVALID_PROMPT
from lore.request import Message, context_exceeded
from lore_generator.engine import Job
from lore_generator.engines import literal
from lore_generator.engines.loading import Loaded
from lore_generator.engines.messages import messages_of
from lore_generator.engines.transcript import Transcript

ANOTHER_MODEL = "the answer so far was made by another model and cannot be continued"


class Refused(Exception):
    """The request cannot be decoded; the message is for its reader, and the reason is one of
    ``lifecycle.FAILURES``."""

    def __init__(self, message: str, reason: str = INVALID_PROMPT) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(slots=True)
class Prepared:
    """A request as the loop takes it, with the state that its log left."""

    tokens: list[int]
    """Prompt and log."""
    prompt_tokens: int
    room: int
    """Most tokens that may still be generated."""
    transcript: Transcript
    unsent: str
    """Text of the log's tokens that the log itself does not hold."""
    finish_reason: str | None
    """Set when the log is already complete: nothing is left to decode."""


def prepare(job: Job, loaded: Loaded, context_tokens: int) -> Prepared:
    """Raises ``Refused`` for a prompt that does not fit and a log of another model."""
    prompt = prompt_tokens(job, loaded.tokenizer)
    if len(prompt) >= context_tokens:
        raise Refused(context_exceeded(len(prompt), context_tokens), CONTEXT_EXCEEDED)
    done = job.generated_ids
    known = range(loaded.model.config.get_text_config().vocab_size)
    if not all(token in known for token in prompt):
        raise Refused("the prompt holds a token that the model does not know")
    if not all(token in known for token in done):
        raise Refused(ANOTHER_MODEL, "error")
    transcript = Transcript(loaded.decoder, job.request.stop)
    said = transcript.feed(token for token in done if token not in loaded.eos_ids)
    if not said.startswith(job.generated_text):
        raise Refused(ANOTHER_MODEL, "error")
    room = min(job.request.max_tokens, context_tokens - len(prompt)) - len(done)
    reason = None
    if transcript.stopped or (done and done[-1] in loaded.eos_ids):
        reason = "stop"
    elif room <= 0:
        reason = "length"
    unsent = said[len(job.generated_text) :]
    return Prepared([*prompt, *done], len(prompt), room, transcript, unsent, reason)


def prompt_tokens(job: Job, tokenizer: TokenizersBackend) -> list[int]:
    """The conversation as the model was taught to read it. Special tokens are the template's alone:
    what messages hold of them is text.

    A model without a chat template gets ``plain_prompt``.
    """
    messages = messages_of(job.request)
    by = literal.stand_ins(tokenizer, (message.content for message in messages))
    hidden = [
        one.model_copy(update={"content": literal.hide(tokenizer, one.content, by)})
        for one in messages
    ]
    if not tokenizer.chat_template:
        return literal.encode(tokenizer, plain_prompt(hidden), by, add_special_tokens=True)
    conversation = [{"role": m.role, "content": m.content} for m in hidden]
    try:
        text = tokenizer.apply_chat_template(
            conversation, add_generation_prompt=True, tokenize=False
        )
    except TemplateError as error:
        raise Refused(f"the model's chat template refuses these messages: {error}") from None
    # The template has written the special tokens itself.
    return literal.encode(tokenizer, str(text), by, add_special_tokens=False)


def plain_prompt(messages: Sequence[Message]) -> str:
    """``User: …``, ``Assistant: …`` in paragraphs, and the beginning of the next answer."""
    said = [f"{message.role.capitalize()}: {message.content}" for message in messages]
    return "\n\n".join([*said, "Assistant:"])
