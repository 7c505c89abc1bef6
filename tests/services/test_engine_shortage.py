"""Who fails when a step runs out of memory; the real model is in test_engine_transformers."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers.generation.continuous_batching.requests import FutureRequestState, RequestState

from lore_generator.engines.shortage import survive, to_blame


def batch(**lengths: int) -> list[FutureRequestState]:
    return [
        FutureRequestState(RequestState(key, [1] * 9), True, {}, length)
        for key, length in lengths.items()
    ]


@pytest.mark.parametrize(
    ("lengths", "blamed"),
    [
        ({"a": 1}, "a"),
        ({"a": 9}, "a"),
        ({"a": 1, "b": 9, "c": 1}, "b"),
        ({"a": 1, "b": 1}, None),
        ({"a": 9, "b": 9, "c": 1}, None),
    ],
)
def test_who_read_a_prompt_or_was_alone_is_to_blame(
    lengths: dict[str, int], blamed: str | None
) -> None:
    assert to_blame(batch(**lengths)) == blamed


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("no"), ValueError()])
def test_the_loop_dies_when_nobody_can_be_told_from_the_others(error: Exception) -> None:
    """Its requests go to other generators then."""
    failed: list[str] = []

    def step() -> None:
        raise error

    manager: Any = SimpleNamespace(_generation_step=step)
    manager._generation_loop_body = lambda processor, bootstrapping: manager._generation_step()
    survive(manager, failed.append)
    processor = SimpleNamespace(
        inputs_and_outputs=SimpleNamespace(requests_in_batch=batch(a=1, b=1))
    )
    with pytest.raises(type(error)):
        manager._generation_loop_body(processor, bootstrapping=False)
    assert failed == []
