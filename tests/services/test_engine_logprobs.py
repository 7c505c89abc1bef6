"""Log probabilities are of the model's own distribution, whatever a request changes of it."""

import random

import pytest
import torch

from lore_generator.engines.measured import Measured, Numbers
from lore_generator.engines.sampling import DECODING_KEY
from tests.services.sampler_harness import Batch, sampling, state_of

VOCABULARY = 50


@pytest.mark.rule("H16")
def test_they_are_of_the_scores_before_penalties_and_temperature() -> None:
    rng, noise = random.Random(3), torch.Generator().manual_seed(3)
    batch = Batch()
    wanted = [None, 0, 1, 5, 3]
    states = [
        state_of(
            f"{n}",
            [1, 2, 3, 4],
            sampling(temperature=n % 3, repetition_penalty=1.8, no_repeat_ngram_size=n % 2, seed=n),
        )
        for n in range(len(wanted))
    ]
    for state, count in zip(states, wanted, strict=True):
        state.logit_processor_kwargs[DECODING_KEY].logprobs = count
    told: dict[str, list[tuple[int, torch.Tensor]]] = {state.request_id: [] for state in states}
    for _ in range(20):
        step = rng.sample(states, rng.randint(1, 5))
        rows = torch.randn(len(step), VOCABULARY, generator=noise) * 4
        chosen = batch.step(step, rows.clone())
        for state, row, token in zip(step, rows.log_softmax(-1), chosen, strict=True):
            told[state.request_id].append((token, row))
    for state, count in zip(states, wanted, strict=True):
        numbers: list[Numbers] = state.logprobs  # pyright: ignore[reportAssignmentType]
        expected = told[state.request_id]
        assert len(numbers) == (0 if count is None else len(expected))
        for one, (token, row) in zip(numbers, expected, strict=False):
            assert one.logprob == pytest.approx(row[token].item(), abs=1e-5)
            best = row.topk(count or 0)
            assert [token for token, _ in one.top] == best.indices.tolist()
            assert [value for _, value in one.top] == pytest.approx(best.values.tolist(), abs=1e-5)


def test_nothing_is_computed_when_nobody_asks() -> None:
    assert Measured.of(torch.randn(2, VOCABULARY), [None, None]) is None
