"""From a job to token ids: the chat template, and the log of an answer that has begun."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from transformers.tokenization_utils_tokenizers import TokenizersBackend

from lore.parts.markers import left_open, names_of
from lore.protocol.lifecycle import INVALID_SCHEMA
from lore_generator.engine import Job
from lore_generator.engines.automata import BadGrammar, Grammars, follow
from lore_generator.engines.conversation import (
    TAIL,
    Refused,
    behind_log,
    check_known,
    prompt_ids,
)
from lore_generator.engines.grammar import grammar_of
from lore_generator.engines.loading import Loaded
from lore_generator.engines.transcript import Transcript
from lore_generator.engines.turns import Json


@dataclass(slots=True)
class Prepared:
    """A request ready for the loop, with the state that its log left."""

    tokens: list[int]
    """The tokens of the prompt and the log."""
    prompt_tokens: int
    room: int
    """The most tokens that may still be generated."""
    transcript: Transcript
    unsent: str
    """Text of the log's tokens that the log itself does not have yet."""
    finish_reason: str | None
    """Set when the log is already complete, so that nothing is left to decode."""
    grammar: str | None
    """The grammar of the answer, if it has one."""


def grammars_of(loaded: Loaded) -> Grammars:
    vocabulary = loaded.model.config.get_text_config().vocab_size
    return Grammars(loaded.tokenizer, vocabulary, loaded.eos_ids)


def prepare(job: Job, loaded: Loaded, context_tokens: int, grammars: Grammars) -> Prepared:
    """Prepare a job. Raises ``Refused`` for a prompt that does not fit, a schema that is not
    supported, and a log of another model.
    """
    prompt = prompt_tokens(job, loaded.tokenizer, loaded.template_args)
    done = job.generated_ids
    vocabulary = loaded.model.config.get_text_config().vocab_size
    check_known(prompt, done, vocabulary, context_tokens)
    form = job.request.form()
    transcript = Transcript(loaded.decoder, job.request.stop, names_of(form))
    opened = left_open(form, loaded.decoder.decode(prompt[-TAIL:], skip_special_tokens=False))
    said = opened + transcript.feed(token for token in done if token not in loaded.eos_ids)
    unsent = behind_log(job, said)
    room = min(job.request.max_tokens, context_tokens - len(prompt)) - len(done)
    reason = None
    if transcript.stopped or (done and done[-1] in loaded.eos_ids):
        reason = "stop"
    elif room <= 0:
        reason = "length"
    grammar = grammar_of(job.request, grammars.special, opened)
    if job.request.logprobs is not None:
        _check_words(grammars)
    if grammar is not None and reason is None:
        _check_grammar(grammar, grammars, done)
    return Prepared([*prompt, *done], len(prompt), room, transcript, unsent, reason, grammar)


def _check_words(grammars: Grammars) -> None:
    """Raises ``Refused`` for a tokenizer whose tokens have no known text."""
    try:
        grammars.text_of(0)
    except BadGrammar as error:
        raise Refused(f"logprobs: {error}") from None


def _check_grammar(grammar: str, grammars: Grammars, done: Sequence[int]) -> None:
    """Raises ``Refused`` for one that is too large, and for a log that does not keep to it."""
    try:
        automaton = grammars.automaton(grammar)
    except BadGrammar as error:
        why = f"the format of the answer is not supported: {error}"
        raise Refused(why, INVALID_SCHEMA) from None
    if not follow(automaton, done):
        raise Refused("the answer so far does not keep to its format", "error")


def prompt_tokens(
    job: Job, tokenizer: TokenizersBackend, args: Mapping[str, object] | None = None
) -> list[int]:
    """The tokens of a job's prompt. ``args``: arguments of the chat template; the request's own
    take precedence.

    Raises ``Refused`` for messages that the template does not accept.
    """

    def render(conversation: list[Json], tools: list[Json], given: Mapping[str, object]) -> str:
        more: dict[str, Any] = {**(args or {}), **given}
        text = tokenizer.apply_chat_template(
            conversation,
            tools=cast("Any", tools or None),
            add_generation_prompt=True,
            tokenize=False,
            **more,
        )
        return str(text)

    return prompt_ids(
        job.request,
        tokenizer.backend_tokenizer,
        render if tokenizer.chat_template else None,
    )
