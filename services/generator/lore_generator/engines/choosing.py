"""Penalties and sampling for a batch, as operations on tensors; each row has its own parameters.

The candidates depend only on the row's scores: tokens of equal score are in or out together, and a
draw runs through the candidates in the order of their ids. So a draw means the same for any batch,
any sorting of the device, and any rounding error that swaps two nearly equal tokens.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from lore.request import StreamRequest
from lore_generator.engines.histories import Rows, placed

TIES = 64
"""How many more tokens than top-k are examined, for tokens of equal score."""
CPU_NUCLEUS = 1024
"""How many of the best tokens a CPU tries for top-p first, because it sorts slowly. A GPU sorts
fast, and would have to tell the host whether they were enough."""
BANNED = -1e30
"""Added to a score. Not minus infinity: if a grammar allows only this token, it is still chosen."""
GREEDY_BELOW = 1e-5
"""Temperatures below this mean greedy decoding."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to choose a request's tokens; the fields are those of ``StreamRequest``."""

    temperature: float
    top_p: float
    top_k: int
    repetition_penalty: float
    no_repeat_ngram_size: int
    seed: int
    min_p: float
    presence_penalty: float
    frequency_penalty: float

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
            request.presence_penalty or 0.0,
            request.frequency_penalty or 0.0,
        )


class Candidates(NamedTuple):
    """The tokens that temperature, top-k, top-p and min-p leave, ordered by token id.

    A token with weight 0 is out. Weights of a row need not add up to 1.
    """

    weights: torch.Tensor
    tokens: torch.Tensor | None
    """None if the column is the token id."""


@dataclass(frozen=True, slots=True)
class Group:
    """Rows of a batch that are processed alike, and their parameters as columns."""

    index: torch.Tensor
    is_all: bool
    """They are the whole batch, in its order."""
    temperature: torch.Tensor
    top_k: torch.Tensor
    top_p: torch.Tensor
    """Infinity instead of 1, which keeps everything: rounding must not cut the tail."""
    min_p: torch.Tensor
    most: int
    """The largest top-k; 0 if a row has none."""

    def scaled(self, scores: torch.Tensor) -> torch.Tensor:
        rows = scores if self.is_all else scores.index_select(0, self.index)
        return rows / self.temperature


@dataclass(frozen=True, slots=True)
class Columns:
    """The parameters of a batch on the device; kept until the batch changes."""

    narrow: Group | None
    """Rows with a top-k or a top-p: their best tokens are sorted."""
    wide: Group | None
    """Rows that may draw any token, without sorting."""
    ngram_sizes: tuple[int, ...]
    with_history: tuple[int, ...]
    """Rows with a penalty or an n-gram size; the fields below have an entry for each."""
    history_index: torch.Tensor
    repetition: torch.Tensor
    presence: torch.Tensor
    frequency: torch.Tensor
    counts: bool
    """Whether a row has a presence or a frequency penalty."""

    @classmethod
    def of(cls, batch: Sequence[Sampling], device: torch.device) -> "Columns":
        drawn = [row for row, one in enumerate(batch) if not is_greedy(one)]
        narrow = [row for row in drawn if batch[row].top_k or batch[row].top_p < 1]
        wide = [row for row in drawn if not (batch[row].top_k or batch[row].top_p < 1)]
        history = [row for row, one in enumerate(batch) if _needs_history(one)]
        some = [batch[row] for row in history]
        penalties = placed(
            [(o.repetition_penalty, o.presence_penalty, o.frequency_penalty) for o in some],
            torch.float32,
            device,
        ).view(-1, 3)
        return cls(
            _group(batch, narrow, device),
            _group(batch, wide, device),
            tuple(one.no_repeat_ngram_size for one in some),
            tuple(history),
            placed(history, torch.int64, device),
            *penalties.split(1, dim=1),
            counts=any(_counts(one) for one in some),
        )


def is_greedy(one: Sampling) -> bool:
    return one.temperature < GREEDY_BELOW


def _needs_history(one: Sampling) -> bool:
    return one.repetition_penalty != 1 or one.no_repeat_ngram_size > 0 or _counts(one)


def _counts(one: Sampling) -> bool:
    return one.presence_penalty != 0 or one.frequency_penalty != 0


def _group(batch: Sequence[Sampling], rows: list[int], device: torch.device) -> Group | None:
    if not rows:
        return None
    some = [batch[row] for row in rows]

    def column(values: Sequence[float], dtype: torch.dtype = torch.float64) -> torch.Tensor:
        return placed(values, dtype, device).unsqueeze(1)

    top_ks = [one.top_k for one in some]
    return Group(
        placed(rows, torch.int64, device),
        len(rows) == len(batch),
        column([one.temperature for one in some], torch.float32),
        column(top_ks, torch.int64),
        column([one.top_p if one.top_p < 1 else torch.inf for one in some]),
        column([one.min_p for one in some]),
        max(top_ks) if all(top_ks) else 0,
    )


def penalise(scores: torch.Tensor, columns: Columns, rows: Rows) -> None:
    """Apply penalties and the n-gram ban, in place. ``rows``: those with a history.

    The repetition penalty concerns the tokens of prompt and answer; presence and frequency
    penalties concern those of the answer, as OpenAI defines them and vLLM applies them.
    """
    ids, lengths, _ = rows
    row = columns.history_index.unsqueeze(1)
    held = scores[row, ids]
    held = torch.where(held < 0, held * columns.repetition, held / columns.repetition)
    if columns.counts:
        count = _occurrences(rows, scores.size(1))
        held -= columns.frequency * count + columns.presence * (count > 0)
    # A token that occurs twice is written twice, with the same score.
    scores[row, ids] = held
    for size in set(columns.ngram_sizes) - {0}:
        some = [at for at, one in enumerate(columns.ngram_sizes) if one == size]
        if size <= ids.size(1):
            at = placed(some, torch.int64, ids.device)
            _ban(scores, columns.history_index[at], ids[at], lengths[at], size)


def _occurrences(rows: Rows, vocabulary: int) -> torch.Tensor:
    """How often its row's answer has each of the tokens in ``rows.ids``."""
    at = torch.arange(rows.ids.size(1), device=rows.ids.device)
    is_answer = (at >= rows.starts.unsqueeze(1)) & (at < rows.lengths.unsqueeze(1))
    counts = torch.zeros(len(rows.ids), vocabulary, device=rows.ids.device)
    return counts.scatter_add_(1, rows.ids, is_answer.float()).gather(1, rows.ids)


def _ban(
    scores: torch.Tensor, index: torch.Tensor, ids: torch.Tensor, lengths: torch.Tensor, size: int
) -> None:
    """Ban the tokens that would complete an n-gram of this size a second time."""
    starts = ids.size(1) - size + 1
    match = torch.arange(starts, device=ids.device) <= (lengths - size).unsqueeze(1)
    for offset in range(size - 1):
        last = (lengths - size + 1 + offset).clamp(min=0).unsqueeze(1)
        match &= ids[:, offset : offset + starts] == ids.gather(1, last)
    # Added, because the same token may also follow other n-grams.
    ban = match.to(scores.dtype) * BANNED
    scores.index_put_((index.unsqueeze(1), ids[:, size - 1 :]), ban, accumulate=True)


def mark(scores: torch.Tensor, columns: Columns, draws: torch.Tensor) -> None:
    """Give each row's drawn token the best score, in place. ``draws``: one in [0, 1) per row.

    Greedy rows do not change: they choose their best token.
    """
    for group, candidates in ((columns.narrow, narrow), (columns.wide, wide)):
        if group is not None:
            weights, tokens = candidates(group.scaled(scores), group)
            at = pick(weights, draws if group.is_all else draws[group.index])
            chosen = at if tokens is None else tokens.gather(1, at)
            scores[group.index.unsqueeze(1), chosen] = torch.inf


def pick(weights: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
    """The column that each row's draw falls into."""
    cumulative = weights.cumsum(dim=-1, dtype=torch.float64)
    total = cumulative[:, -1:].contiguous()
    at = torch.searchsorted(cumulative, draws.unsqueeze(1) * total, right=True)
    # A draw that is rounded up to the total would fall behind the last candidate.
    return at.minimum(torch.searchsorted(cumulative, total))


def wide(scaled: torch.Tensor, group: Group) -> Candidates:
    weights = scaled.softmax(dim=-1)
    least = weights.amax(dim=-1, keepdim=True) * group.min_p
    return Candidates(weights.masked_fill_(weights < least, 0), None)


def narrow(scaled: torch.Tensor, group: Group) -> Candidates:
    vocabulary = scaled.size(1)
    is_cpu = scaled.device.type == "cpu"
    width = group.most + TIES if group.most else CPU_NUCLEUS if is_cpu else vocabulary
    while True:
        best, tokens = scaled.topk(min(width, vocabulary))
        weights, cut = _nucleus(scaled, best, group)
        if width >= vocabulary or not is_cpu or bool((best[:, -1:] < cut).all()):
            break
        width = vocabulary
    order = tokens.argsort(dim=-1)
    return Candidates(weights.gather(1, order), tokens.gather(1, order))


def _nucleus(
    scaled: torch.Tensor, best: torch.Tensor, group: Group
) -> tuple[torch.Tensor, torch.Tensor]:
    """The weights of ``best`` (each row in falling order), and the lowest score that is in."""
    last = torch.where(group.top_k > 0, group.top_k, best.size(1)).clamp(max=best.size(1)) - 1
    cut = best.gather(1, last)
    best = best.masked_fill(best < cut, -torch.inf)
    whole = best.logsumexp(dim=-1, keepdim=True)
    if not group.most:
        whole = torch.where(group.top_k > 0, whole, scaled.logsumexp(dim=-1, keepdim=True))
    weights = (best.double() - whole.double()).exp()
    better = weights.cumsum(dim=-1) - weights
    last = (better < group.top_p).sum(dim=-1, keepdim=True) - 1
    cut = torch.maximum(cut, best.gather(1, last))
    least = weights[:, :1] * group.min_p
    return weights.masked_fill((best < cut) | (weights < least), 0), cut
