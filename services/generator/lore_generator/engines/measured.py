"""Log probabilities of a batch's tokens, for the requests that ask for them.

They are the model's own: of its scores as they came, before penalties, forms and temperature.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch


class Numbers(NamedTuple):
    """Of one token."""

    logprob: float
    top: list[tuple[int, float]]
    """The likeliest token ids in its place, with theirs."""


@dataclass(frozen=True, slots=True)
class Measured:
    rows: list[int]
    wanted: list[int]
    """How many of the likeliest, of each of these rows."""
    logprobs: torch.Tensor

    @classmethod
    def of(cls, scores: torch.Tensor, wanted: Sequence[int | None]) -> "Measured | None":
        """Before the scores are changed. None when nobody asks."""
        rows = [row for row, count in enumerate(wanted) if count is not None]
        if not rows:
            return None
        index = torch.tensor(rows, device=scores.device)
        logprobs = scores.index_select(0, index).log_softmax(dim=-1)
        return cls(rows, [count for count in wanted if count is not None], logprobs)

    def numbers(self, scores: torch.Tensor) -> Iterator[tuple[int, Numbers]]:
        """Of the token that each row chooses: its best, now."""
        index = torch.tensor(self.rows, device=scores.device)
        chosen = scores.index_select(0, index).argmax(dim=-1, keepdim=True)
        most = max(self.wanted)
        best, ids = self.logprobs.topk(most)
        said = self.logprobs.gather(1, chosen).squeeze(1).tolist()
        told = zip(self.rows, self.wanted, said, best.tolist(), ids.tolist(), strict=True)
        for row, count, logprob, values, tokens in told:
            yield row, Numbers(logprob, list(zip(tokens[:count], values[:count], strict=True)))
