"""The tokens of the requests in a batch, prompt and answer, as the rows of a tensor.

They stay on the device between steps; a step adds one token to each. There are rows for twice as
many requests as the largest step had. A request that is parked for long loses its row, and gets
another one when it is back.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from transformers.generation.continuous_batching.requests import RequestState

FIRST_WIDTH = 256


class Rows(NamedTuple):
    """The rest of a row behind its end is filled with its first token."""

    ids: torch.Tensor
    """One row for each request, as wide as the longest."""
    lengths: torch.Tensor
    starts: torch.Tensor
    """Where each answer begins: the length of its prompt."""


class Histories:
    def __init__(self) -> None:
        self._ids = torch.empty(0, 0, dtype=torch.int64)
        self._lengths: list[int] = []
        self._slots: OrderedDict[str, int] = OrderedDict()
        """By the request's key, the least recently used first."""

    def rows(
        self, states: Sequence[RequestState], starts: Sequence[int], last: torch.Tensor
    ) -> Rows:
        """The requests' rows, with all tokens that they have generated. ``starts``: the lengths of
        their prompts, without what a log or an eviction added. ``last``: the last token of each,
        on the device; the host may not know it yet.
        """
        device = last.device
        lengths = [state.position_offset for state in states]
        self._grow(len(states), max(lengths), device)
        slots = self._take_slots([state.request_id for state in states])
        for state, slot, length in zip(states, slots, lengths, strict=True):
            held = self._lengths[slot] if self._lengths[slot] < length else 0
            if not held:
                self._ids[slot].fill_(state.initial_tokens[0])
            if held < length - 1:
                tokens = tokens_of(state, held)[: length - 1 - held]
                self._ids[slot, held : held + len(tokens)] = placed(tokens, torch.int64, device)
            self._lengths[slot] = length
        index, ends, begins = placed([slots, lengths, starts], torch.int64, device).unbind(0)
        self._ids[index, ends - 1] = last.to(torch.int64)
        return Rows(self._ids[:, : max(lengths)].index_select(0, index), ends, begins)

    def _take_slots(self, keys: Sequence[str]) -> list[int]:
        """A slot for each key: its own, a free one, or the least recently used one."""
        for key in keys:
            if key in self._slots:
                self._slots.move_to_end(key)
        for key in keys:
            if key not in self._slots:
                used = len(self._slots)
                slot = used if used < len(self._lengths) else self._slots.popitem(last=False)[1]
                self._slots[key] = slot
                self._lengths[slot] = 0
        return [self._slots[key] for key in keys]

    def _grow(self, requests: int, width: int, device: torch.device) -> None:
        slots, wide = self._ids.shape
        if requests * 2 <= slots and width <= wide:
            return
        slots, had = max(slots, requests * 2), self._ids
        wide = max(wide, FIRST_WIDTH, 2 * width if width > wide else 0)
        self._ids = torch.zeros(slots, wide, dtype=torch.int64, device=device)
        if had.numel():
            # The new columns, too, are filled with each row's first token.
            self._ids[: len(had)] = had[:, :1]
            self._ids[: len(had), : had.size(1)] = had
        self._lengths += [0] * (slots - len(self._lengths))


def placed(values: Sequence[Any], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """A tensor of host values on the device. From ordinary memory, a GPU copies only after it has
    finished its work, and the host would wait for that.
    """
    made = torch.tensor(values, dtype=dtype, pin_memory=device.type == "cuda")
    return made.to(device, non_blocking=True)


def tokens_of(state: RequestState, start: int) -> list[int]:
    """The tokens of the prompt and the answer from ``start`` on."""
    prompt = len(state.initial_tokens)
    if start >= prompt:
        return state.generated_tokens[start - prompt :]
    return [*state.initial_tokens[start:], *state.generated_tokens]
