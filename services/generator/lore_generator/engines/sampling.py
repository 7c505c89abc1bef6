"""Sampling for a batch in which every request has its own parameters.

It replaces transformers' logits processors, which ignore repetition penalties in continuous
batching. The order is that of ``generate``: repetition penalty, repeated n-grams, the request's
grammar, then temperature, top-k, top-p and min-p unless the request is greedy. Frequency and
presence penalties, which ``generate`` lacks, follow the repetition penalty, as in vLLM.

The draw for a token depends only on the request's seed and the token's position, not on the batch
or on earlier draws of the device's generator. So a seeded request repeats, and an answer that
another generator continues goes on as it would have.
"""

import hashlib
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from transformers import LogitsProcessorList
from transformers.generation.continuous_batching.cb_logits_processors import (
    ContinuousBatchingLogitsProcessorList,
)
from transformers.generation.continuous_batching.requests import FutureRequestState, RequestState

from lore_generator.engines.automata import Automata, Constrained, Grammars, allow
from lore_generator.engines.choosing import Columns, Sampling, is_greedy, mark, penalise
from lore_generator.engines.histories import Histories, placed, tokens_of
from lore_generator.engines.measured import Measured


@dataclass(slots=True)
class Decoding:
    """What the engine keeps with a request in the loop, under ``DECODING_KEY``.

    It travels to every rank of a tensor-parallel group, and is copied when the request is read
    again: it holds nothing of a device.
    """

    prompt_tokens: int
    limit: int | None
    sampling: Sampling
    grammar: str | None = None
    """What the answer keeps to; see ``grammar.py``."""
    logprobs: int | None = None
    """Keep the log probability of each token, and of so many that were likely."""
    ahead_tokens: int = 0
    """How far it was ahead of its reader when it was parked last."""

    @property
    def is_sequential(self) -> bool:
        """Whether the host must know a token before it can choose the next: to move an automaton
        on, or to keep log probabilities in order. With two steps in flight, such a request takes
        part in every other one.
        """
        return self.grammar is not None or self.logprobs is not None


DECODING_KEY = "lore"


def decoding_of(state: RequestState) -> Decoding:
    return state.logit_processor_kwargs[DECODING_KEY]


def generated_tokens(state: RequestState) -> int:
    """The number of tokens generated so far, those in the log included. A reset request has them in
    its prompt.
    """
    held = len(state.initial_tokens) + len(state.generated_tokens)
    return held - decoding_of(state).prompt_tokens


def in_flight(state: RequestState) -> int:
    """How many of its tokens are being computed and not yet known, when a step is planned: 0 or 1.
    A request has read all its tokens but the last, unless that one is still on the device.
    """
    known = len(state.initial_tokens) + len(state.generated_tokens)
    return max(0, state.position_offset + 1 - known)


def answer_of(state: RequestState, start: int) -> list[int]:
    """The answer's tokens from its position ``start`` on, log included."""
    return tokens_of(state, decoding_of(state).prompt_tokens + start)


def _position(state: RequestState) -> int:
    """The place in the answer of the token that the step under way chooses."""
    return state.position_offset - decoding_of(state).prompt_tokens


def draw(seed: int, position: int) -> float:
    """A number in [0, 1) for the token at ``position`` of the answer."""
    digest = hashlib.blake2b(struct.pack("<QQ", seed, position), digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> 11) / 2**53


class Sampler(ContinuousBatchingLogitsProcessorList):
    """Chooses each request's next token and marks it, so that the loop's argmax takes it.

    With asynchronous batching, the host does not know a request's last token yet. So its position
    is that of the token read in this step, and histories take the token itself from the device.
    """

    def __init__(self, grammars: Grammars, fail: Callable[[str], None]) -> None:
        """``fail`` is told the key of a request whose grammar cannot be followed any further, in
        the loop's thread."""
        super().__init__(LogitsProcessorList())
        self._automata = Automata(grammars)
        self._fail = fail
        self.do_processing = True
        self._states: list[RequestState] = []
        self._histories = Histories()
        self._made_for: tuple[Sampling, ...] | None = None
        self._columns: Columns | None = None

    def prepare_tensor_args(
        self, requests_in_batch: list[FutureRequestState], arg_storage: torch.Tensor
    ) -> torch.Tensor:
        # The loop warms up with requests of its own, which nobody reads.
        self._states = [
            future.state
            for future in requests_in_batch
            if future.has_new_token and DECODING_KEY in future.state.logit_processor_kwargs
        ]
        self._automata.begin(
            [
                Constrained(row, state.request_id, grammar, partial(answer_of, state))
                for row, state in enumerate(self._states)
                if (grammar := decoding_of(state).grammar) is not None
            ]
        )
        return arg_storage

    def __call__(
        self,
        input_ids: torch.Tensor,
        scores: torch.Tensor,
        logits_processor_args: torch.Tensor,  # noqa: ARG002
    ) -> torch.Tensor:
        if self._states:
            # Rows past these belong to prompts that are not yet complete; nobody reads them.
            count = len(self._states)
            self._choose(self._states, input_ids[:count], scores[:count])
        return scores

    def _choose(
        self, states: Sequence[RequestState], last: torch.Tensor, scores: torch.Tensor
    ) -> None:
        """``last``: the last token of each request."""
        measured = Measured.of(scores, [decoding_of(state).logprobs for state in states])
        samplings = tuple(decoding_of(state).sampling for state in states)
        columns = self._columns_of(samplings, scores.device)
        if columns.with_history:
            some = [states[row] for row in columns.with_history]
            starts = [decoding_of(state).prompt_tokens for state in some]
            rows = self._histories.rows(some, starts, last[columns.history_index])
            penalise(scores, columns, rows)
        if (allowed := self._automata.end()) is not None:
            allow(scores, allowed)
            for key in allowed.failed:
                self._fail(key)
        if columns.narrow or columns.wide:
            # A greedy request draws nothing.
            draws = [
                0.0 if is_greedy(sampling) else draw(sampling.seed, _position(state))
                for state, sampling in zip(states, samplings, strict=True)
            ]
            mark(scores, columns, placed(draws, torch.float64, scores.device))
        if measured is not None:
            for row, numbers in measured.numbers(scores):
                # Beside the state's tokens, from where its outputs bring them along.
                states[row].logprobs.append(numbers)  # pyright: ignore[reportArgumentType]

    def _columns_of(self, samplings: tuple[Sampling, ...], device: torch.device) -> Columns:
        if self._columns is None or samplings != self._made_for:
            self._made_for, self._columns = samplings, Columns.of(samplings, device)
        return self._columns
