"""Sampling for a batch in which every request has its own parameters.

It replaces transformers' logits processors, which ignore repetition penalties in continuous
batching. The order is that of ``generate``: repetition penalty, repeated n-grams, then temperature,
top-k, top-p and min-p unless the request is greedy.

The draw for a token depends only on the request's seed and the token's position, not on the batch
or on earlier draws of the device's generator. So a seeded request repeats, and an answer that
another generator continues goes on as it would have.
"""

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from transformers import LogitsProcessorList
from transformers.generation.continuous_batching.cb_logits_processors import (
    ContinuousBatchingLogitsProcessorList,
)
from transformers.generation.continuous_batching.requests import FutureRequestState, RequestState

from lore.request import StreamRequest


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to choose a request's tokens; the fields are those of ``StreamRequest``."""

    temperature: float
    top_p: float
    top_k: int
    repetition_penalty: float
    no_repeat_ngram_size: int
    seed: int
    min_p: float = 0.0

    @classmethod
    def of(cls, request_id: str, request: StreamRequest) -> "Sampling":
        """The sampling of a request. One without a seed draws by its id, so that its continuation
        at another generator agrees with it.
        """
        drawn = hashlib.blake2b(request_id.encode(), digest_size=8).digest()
        return cls(
            request.temperature,
            request.top_p,
            request.top_k,
            request.repetition_penalty,
            request.no_repeat_ngram_size,
            int.from_bytes(drawn) if request.seed is None else request.seed,
            request.min_p or 0.0,
        )


@dataclass(slots=True)
class History:
    """The tokens of the prompt and the answer so far, updated with each token."""

    ngram_size: int
    seen: dict[int, None] = field(default_factory=dict[int, None])
    length: int = 0
    _tail: tuple[int, ...] = ()
    _followers: dict[tuple[int, ...], set[int]] = field(
        default_factory=dict[tuple[int, ...], set[int]]
    )

    def extend(self, tokens: Sequence[int]) -> None:
        for token in tokens:
            self.seen[token] = None
            if self.ngram_size:
                if len(self._tail) == self.ngram_size - 1:
                    self._followers.setdefault(self._tail, set()).add(token)
                self._tail = (
                    (*self._tail, token)[1 - self.ngram_size :] if self.ngram_size > 1 else ()
                )
        self.length += len(tokens)

    def banned(self) -> set[int]:
        """Tokens that would repeat an n-gram."""
        return self._followers.get(self._tail, set()) if self.ngram_size else set()


@dataclass(slots=True)
class Decoding:
    """What the engine stores with a request in the loop, under ``DECODING_KEY``."""

    prompt_tokens: int
    limit: int | None
    sampling: Sampling
    history: History


DECODING_KEY = "lore"


def decoding_of(state: RequestState) -> Decoding:
    return state.logit_processor_kwargs[DECODING_KEY]


def generated_tokens(state: RequestState) -> int:
    """The number of tokens generated so far, those in the log included. A reset request has them in
    its prompt.
    """
    held = len(state.initial_tokens) + len(state.generated_tokens)
    return held - decoding_of(state).prompt_tokens


def draw(seed: int, position: int) -> float:
    """A number in [0, 1) for the token at ``position`` of the answer."""
    digest = hashlib.blake2b(struct.pack("<QQ", seed, position), digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> 11) / 2**53


class Sampler(ContinuousBatchingLogitsProcessorList):
    """Chooses each request's next token and marks it, so that the loop's argmax takes it.

    Steps must not overlap (no asynchronous batching): a request's history is read when its scores
    arrive.
    """

    def __init__(self) -> None:
        super().__init__(LogitsProcessorList())
        self.do_processing = True
        self._states: list[RequestState] = []

    def prepare_tensor_args(
        self, requests_in_batch: list[FutureRequestState], arg_storage: torch.Tensor
    ) -> torch.Tensor:
        self._states = [future.state for future in requests_in_batch if future.has_new_token]
        return arg_storage

    def __call__(
        self,
        input_ids: torch.Tensor,  # noqa: ARG002
        scores: torch.Tensor,
        logits_processor_args: torch.Tensor,  # noqa: ARG002
    ) -> torch.Tensor:
        decodings = [decoding_of(state) for state in self._states]
        for state, decoding in zip(self._states, decodings, strict=True):
            _catch_up(decoding.history, state)
        # Rows beyond these belong to incomplete prompts, and nobody reads them.
        rows = scores[: len(decodings)]
        penalise(rows, decodings)
        draws = [
            draw(decoding.sampling.seed, generated_tokens(state))
            for state, decoding in zip(self._states, decodings, strict=True)
        ]
        chosen = choose(rows, [decoding.sampling for decoding in decodings], draws)
        rows.scatter_(1, chosen.unsqueeze(1), torch.inf)
        return scores


def _catch_up(history: History, state: RequestState) -> None:
    prompt = len(state.initial_tokens)
    if history.length < prompt:
        history.extend(state.initial_tokens[history.length :])
    history.extend(state.generated_tokens[history.length - prompt :])


def penalise(scores: torch.Tensor, decodings: Sequence[Decoding]) -> None:
    """Apply the repetition penalty and the n-gram ban, in place."""
    for row, decoding in zip(scores, decodings, strict=True):
        penalty = decoding.sampling.repetition_penalty
        if penalty != 1:
            seen = torch.tensor(list(decoding.history.seen), device=scores.device)
            held = row[seen]
            row[seen] = torch.where(held < 0, held * penalty, held / penalty)
        if banned := decoding.history.banned():
            row[torch.tensor(list(banned), device=scores.device)] = -torch.inf


def choose(
    scores: torch.Tensor, samplings: Sequence[Sampling], draws: Sequence[float]
) -> torch.Tensor:
    """A token for each row: the best for greedy requests, else by the row's draw."""
    chosen = scores.argmax(dim=-1)
    sampled = [row for row, sampling in enumerate(samplings) if sampling.temperature > 0]
    if sampled:
        index = torch.tensor(sampled, device=scores.device)
        weights, tokens = candidates(scores[index], [samplings[row] for row in sampled])
        # In the order of the token ids, so that a rounding error that swaps two nearly equal
        # candidates does not change the meaning of a draw.
        cumulative = weights.cumsum(dim=-1)
        drawn = torch.tensor([draws[row] for row in sampled], device=scores.device).double()
        aim = drawn.unsqueeze(1) * cumulative[:, -1:]
        at = torch.searchsorted(cumulative, aim, right=True).clamp_(max=weights.size(1) - 1)
        chosen[index] = tokens.gather(1, at).squeeze(1)
    return chosen


def candidates(
    scores: torch.Tensor, samplings: Sequence[Sampling]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The weights and token ids, ordered by id, that temperature, top-k, top-p and min-p leave.

    A token with weight 0 is out. The weights of a row need not add up to 1.
    """

    def column(values: Sequence[float]) -> torch.Tensor:
        return torch.tensor(values, device=scores.device, dtype=torch.float64).unsqueeze(1)

    vocabulary = scores.size(1)
    top_ks = [min(sampling.top_k or vocabulary, vocabulary) for sampling in samplings]
    best, tokens = (scores / column([s.temperature for s in samplings]).float()).topk(max(top_ks))
    rank = torch.arange(best.size(1), device=scores.device)
    best = best.masked_fill(rank >= column(top_ks), -torch.inf)
    weights = best.softmax(dim=-1, dtype=torch.float64)
    better = weights.cumsum(dim=-1) - weights
    # 1 keeps everything: rounding must not cut off the tail.
    top_p = column([s.top_p if s.top_p < 1 else torch.inf for s in samplings])
    weights = weights.masked_fill(better >= top_p, 0.0)
    weights = weights.masked_fill(
        weights < column([s.min_p for s in samplings]) * weights[:, :1], 0
    )
    order = tokens.argsort(dim=-1)
    return weights.gather(1, order), tokens.gather(1, order)
