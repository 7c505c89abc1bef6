"""Which tokens each request's grammar allows next: its automaton, moved on token by token.

An automaton follows from the grammar and from the answer's tokens, so it need not be kept: one
that is missing, after a takeover or when there were too many, is made anew from the log's tokens.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import llguidance.numpy
import numpy as np
import structlog
import torch
from llguidance import LLExecutor, LLMatcher, LLTokenizer
from llguidance.hf import from_tokenizer
from transformers.tokenization_utils_tokenizers import TokenizersBackend

from lore_generator.engines.histories import placed
from lore_generator.engines.schema_errors import LIMITS

KEPT_GRAMMARS = 64
KEPT_AUTOMATA = 64
"""At least; twice as many as a step has had, where that is more."""

log = structlog.get_logger()


class BadGrammar(Exception):
    """Nothing can be decoded by this grammar."""


class Grammars:
    """Compiled grammars, for one tokenizer. May be used from several threads."""

    def __init__(
        self, tokenizer: TokenizersBackend, vocabulary: int, eos_ids: frozenset[int]
    ) -> None:
        self._tokenizer = tokenizer
        self._eos_ids = sorted(eos_ids)
        self.vocabulary = max(vocabulary, len(tokenizer))
        self._lock = threading.Lock()
        self._words: LLTokenizer | None = None
        self._compiled: OrderedDict[str, LLMatcher] = OrderedDict()

    def special(self, text: str) -> int | None:
        """The id of a special token."""
        token = self._tokenizer.backend_tokenizer.token_to_id(text)
        is_special = token is not None and token in self._tokenizer.all_special_ids
        return token if is_special else None

    def automaton(self, grammar: str) -> LLMatcher:
        """At the beginning of an answer. Raises BadGrammar."""
        with self._lock:
            if grammar in self._compiled:
                self._compiled.move_to_end(grammar)
                return self._compiled[grammar].deep_copy()
            words = self._words = self._words or self._read_words()
        made = LLMatcher(words, grammar, log_level=0, limits=LIMITS)
        if made.is_error():
            raise BadGrammar(made.get_error().partition("\n")[0])
        with self._lock:
            self._compiled[grammar] = made
            while len(self._compiled) > KEPT_GRAMMARS:
                self._compiled.popitem(last=False)
        return made.deep_copy()

    def text_of(self, token: int) -> bytes:
        """What a token stands for. Raises BadGrammar."""
        with self._lock:
            words = self._words = self._words or self._read_words()
        # Special tokens have a byte in front that no text has.
        return words.decode_bytes([token]).removeprefix(b"\xff")

    def _read_words(self) -> LLTokenizer:
        """Takes about a second."""
        if not self._eos_ids:
            raise BadGrammar("the model has no token that ends an answer")
        try:
            return from_tokenizer(
                self._tokenizer,
                self.vocabulary,
                self._eos_ids,
                slices=LLTokenizer.json_slices(),
            )
        except ValueError as error:
            raise BadGrammar(f"the model's tokenizer cannot be constrained: {error}") from None


def follow(automaton: LLMatcher, tokens: Sequence[int]) -> bool:
    """Move it on. False when the grammar does not allow these tokens."""
    return not tokens or automaton.consume_tokens(list(tokens))


class Constrained(NamedTuple):
    """A request of the next step whose answer keeps to a grammar."""

    row: int
    key: str
    grammar: str
    answer: Callable[[int], list[int]]
    """The tokens of its answer from a position on."""


@dataclass(slots=True)
class _Automaton:
    matcher: LLMatcher
    fed: int = 0


class Allowed(NamedTuple):
    rows: list[int]
    is_out: torch.Tensor
    """Of each of these rows and each token: whether it may not come next."""
    failed: list[str]
    """The keys of requests that can go on no longer."""


class Automata:
    """Computes a step's masks in a thread of its own, while the model computes the scores."""

    def __init__(self, grammars: Grammars) -> None:
        self._grammars = grammars
        self._kept: OrderedDict[str, _Automaton] = OrderedDict()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="lore-grammar")
        self._parallel: LLExecutor | None = None
        self._step: Future[Allowed] | None = None

    def begin(self, step: Sequence[Constrained]) -> None:
        """Before the model's part of a step."""
        self._step = self._thread.submit(self._masks, step) if step else None

    def end(self) -> Allowed | None:
        """Behind it; None when nobody in this step has a grammar."""
        step, self._step = self._step, None
        return step.result() if step else None

    def _masks(self, step: Sequence[Constrained]) -> Allowed:
        bits = llguidance.numpy.allocate_token_bitmask(len(step), self._grammars.vocabulary)
        failed: list[str] = []
        ready: list[tuple[LLMatcher, int]] = []
        for place, one in enumerate(step):
            try:
                ready.append((self._caught_up(one), place))
            except BadGrammar as error:
                log.error("grammar not followed", reason=str(error))
                failed.append(one.key)
        if ready:
            self._parallel = self._parallel or LLExecutor()
            llguidance.numpy.fill_next_token_bitmask_par(self._parallel, ready, bits)
        for matcher, place in ready:
            if matcher.is_error():
                log.error("grammar not followed", reason=matcher.get_error().partition("\n")[0])
                failed.append(step[place].key)
                bits[place] = -1
        while len(self._kept) > max(KEPT_AUTOMATA, 2 * len(step)):
            self._kept.popitem(last=False)
        is_in = np.unpackbits(bits.view(np.uint8), axis=1, bitorder="little")
        is_out = torch.from_numpy(is_in).view(torch.bool).logical_not_()
        return Allowed([one.row for one in step], is_out, failed)

    def _caught_up(self, one: Constrained) -> LLMatcher:
        kept = self._kept.pop(one.key, None) or _Automaton(self._grammars.automaton(one.grammar))
        new = one.answer(kept.fed)
        if not follow(kept.matcher, new):
            raise BadGrammar(kept.matcher.get_error().partition("\n")[0])
        kept.fed += len(new)
        self._kept[one.key] = kept
        return kept.matcher


def allow(scores: torch.Tensor, allowed: Allowed) -> None:
    """Leave each row the tokens that its grammar allows, in place."""
    is_out = allowed.is_out[:, : scores.size(1)]
    if scores.is_cuda:  # from ordinary memory, the host would wait until the scores are computed
        is_out = is_out.pin_memory()
    is_out = is_out.to(scores.device, non_blocking=True)
    if len(allowed.rows) == len(scores):
        scores.masked_fill_(is_out, -torch.inf)
    else:
        index = placed(allowed.rows, torch.int64, scores.device)
        scores[index] = scores[index].masked_fill_(is_out, -torch.inf)
