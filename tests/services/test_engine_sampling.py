"""Sampling agrees with transformers' own processors, row by row, whatever else is in the batch."""

import random
from collections import Counter

import pytest
import torch
from transformers import (
    MinPLogitsWarper,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)
from transformers.generation.continuous_batching.requests import RequestState

from lore.request import StreamRequest
from lore_generator.engines.choosing import CPU_NUCLEUS, Columns, mark, narrow, wide
from lore_generator.engines.sampling import Sampling, decoding_of, draw
from tests.services.sampler_harness import Batch, sampling, state_of

VOCABULARY = 97
CASES = 10_000


def scores(rows: int, seed: int = 0, vocabulary: int = VOCABULARY) -> torch.Tensor:
    return torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed)) * 3


def penalised(row: torch.Tensor, wanted: Sampling, tokens: list[int], prompt: int) -> torch.Tensor:
    """By transformers' processors; presence and frequency as OpenAI defines them, for the tokens
    behind the ``prompt`` first ones."""
    ids = torch.LongTensor([tokens])
    expected = RepetitionPenaltyLogitsProcessor(float(wanted.repetition_penalty))(
        ids, row.unsqueeze(0).clone()
    )
    for token, count in Counter(tokens[prompt:]).items():
        expected[0, token] -= wanted.frequency_penalty * count + wanted.presence_penalty
    if wanted.no_repeat_ngram_size:
        expected = NoRepeatNGramLogitsProcessor(wanted.no_repeat_ngram_size)(ids, expected)
    return expected[0]


def as_transformers(row: torch.Tensor, wanted: Sampling) -> torch.Tensor:
    """The row's probabilities by the processors of ``generate``."""
    none = torch.LongTensor(1, 0)
    warped = TemperatureLogitsWarper(float(wanted.temperature))(none, row.unsqueeze(0))
    if wanted.top_k:
        warped = TopKLogitsWarper(wanted.top_k)(none, warped)
    if wanted.top_p < 1:
        warped = TopPLogitsWarper(wanted.top_p)(none, warped)
    if wanted.min_p:
        warped = MinPLogitsWarper(wanted.min_p)(none, warped)
    return warped.softmax(-1)[0]


def expected_token(row: torch.Tensor, state: RequestState) -> int:
    decoding = decoding_of(state)
    wanted, prompt = decoding.sampling, decoding.prompt_tokens
    tokens = [*state.initial_tokens, *state.generated_tokens]
    row = penalised(row, wanted, tokens, prompt)
    if not wanted.temperature:
        return int(row.argmax())
    cumulative = as_transformers(row, wanted).cumsum(-1, dtype=torch.float64)
    aim = draw(wanted.seed, len(tokens) - prompt) * cumulative[-1]
    return int(torch.searchsorted(cumulative, aim, right=True))


def some_sampling(rng: random.Random) -> Sampling:
    return sampling(
        temperature=rng.choice([0, 0.3, 0.7, 1, 1.5, 2]),
        top_k=rng.choice([0, 0, 1, 3, 20, 50, 96, 97, 1000]),
        top_p=rng.choice([1, 1, 0.999, 0.9, 0.5, 0.05]),
        min_p=rng.choice([None, None, 0.02, 0.3]),
        repetition_penalty=rng.choice([1, 1, 1.1, 0.7, 2]),
        presence_penalty=rng.choice([None, None, 0.0, 1.5, -0.5]),
        frequency_penalty=rng.choice([None, None, 0.0, 0.7, -0.2]),
        no_repeat_ngram_size=rng.choice([0, 0, 0, 1, 2, 3, 5]),
        seed=rng.randrange(2**32),
    )


def test_ten_thousand_tokens_are_those_that_transformers_would_choose() -> None:
    """Requests come, some with a log; they are parked for longer than their row is kept, and are
    back, some of them evicted: the loop then counts their answer to their prompt."""
    rng, noise = random.Random(1), torch.Generator().manual_seed(1)
    batch, compared, kinds = Batch(), 0, Counter[str]()
    while compared < CASES:
        states = [
            state_of(
                f"{compared}.{n}",
                rng.choices(range(40), k=rng.randint(1, 12)),
                some_sampling(rng),
                log=tuple(rng.choices(range(40), k=rng.choice([0, 0, 6]))),
            )
            for n in range(24)
        ]
        for _ in range(60):
            evicted = rng.randrange(24)
            states[evicted] = states[evicted].create_equivalent_initial_request()
            step = rng.sample(states, rng.randint(1, 8))
            rows = torch.randn(len(step), VOCABULARY, generator=noise) * 3
            expected = [expected_token(*one) for one in zip(rows, step, strict=True)]
            assert batch.step(step, rows.clone()) == expected
            compared += len(step)
            best = zip(expected, rows.argmax(-1).tolist(), strict=True)
            kinds.update("best" if token == first else "other" for token, first in best)
    assert min(kinds["best"], kinds["other"]) > CASES / 10


MIXED = [
    sampling(temperature=0.7, top_p=0.9, top_k=50),
    sampling(temperature=1.3),
    sampling(temperature=0.2, top_k=3),
    sampling(temperature=2, top_p=0.3),
    sampling(temperature=1, top_k=1),
    sampling(temperature=1, top_k=1000, top_p=0.001),
    sampling(temperature=1.5, min_p=0.1),
    sampling(temperature=1, top_k=20, top_p=0.8, min_p=0.2),
]


def probabilities(rows: torch.Tensor, together: list[Sampling]) -> torch.Tensor:
    columns = Columns.of(together, rows.device)
    ours = torch.zeros(rows.shape, dtype=torch.float64)
    for group, candidates in ((columns.narrow, narrow), (columns.wide, wide)):
        if group is not None:
            weights, tokens = candidates(group.scaled(rows), group)
            kept = weights.double() / weights.double().sum(-1, keepdim=True)
            part = torch.zeros(len(kept), rows.size(1), dtype=torch.float64)
            ours[group.index] = kept if tokens is None else part.scatter_(1, tokens, kept)
    return ours


@pytest.mark.parametrize("together", [MIXED, MIXED[:1], [MIXED[2], MIXED[4]], MIXED[6:]])
@pytest.mark.parametrize("vocabulary", [VOCABULARY, 4 * CPU_NUCLEUS])
def test_what_may_be_drawn_is_what_transformers_leaves(
    together: list[Sampling], vocabulary: int
) -> None:
    rows = scores(len(together), vocabulary=vocabulary)
    for row, wanted, ours in zip(rows, together, probabilities(rows, together), strict=True):
        expected = as_transformers(row, wanted)
        assert torch.equal(ours > 0, expected > 0)
        torch.testing.assert_close(ours, expected.double(), atol=1e-6, rtol=1e-5)


def test_a_nucleus_wider_than_what_was_sorted_is_whole() -> None:
    flat = scores(2, vocabulary=8 * CPU_NUCLEUS) / 100
    wanted = [sampling(temperature=2, top_p=0.8), sampling(temperature=1, top_p=0.5, top_k=900)]
    ours = probabilities(flat, wanted)
    for row, one, kept in zip(flat, wanted, ours, strict=True):
        # On so flat a row a token more or less is a rounding error of the reference's float32.
        expected = int((as_transformers(row, one) > 0).sum())
        assert int((kept > 0).sum()) == pytest.approx(expected, rel=1e-3)
    assert (ours[0] > 0).sum() > CPU_NUCLEUS


def test_tokens_of_equal_score_are_in_or_out_together() -> None:
    """Else which of them are in would depend on how the device sorts, and how wide the batch is."""
    rows = scores(3).mul_(2).round_()
    for one in (sampling(temperature=1, top_k=7), sampling(temperature=1, top_p=0.6)):
        for row, kept in zip(rows, probabilities(rows, [one] * 3), strict=True):
            least = row[kept > 0].min()
            assert torch.equal(kept > 0, row >= least)
        ours = probabilities(rows, [one, *MIXED[:2]])[0]
        assert torch.equal(ours > 0, probabilities(rows[:1], [one])[0] > 0)


def chosen(rows: torch.Tensor, wanted: list[Sampling], draws: list[float]) -> torch.Tensor:
    marked = rows.clone()
    columns = Columns.of(wanted, rows.device)
    mark(marked, columns, torch.tensor(draws, dtype=torch.float64))
    return marked.argmax(-1)


def test_draws_follow_the_probabilities() -> None:
    wanted = sampling(temperature=1, top_k=4)
    row = scores(1)
    draws = [draw(7, position) for position in range(4000)]
    counted = Counter(chosen(row.repeat(4000, 1), [wanted] * 4000, draws).tolist())
    expected = as_transformers(row[0], wanted)
    assert set(counted) == set(torch.nonzero(expected).flatten().tolist())
    for token, count in counted.items():
        assert count / 4000 == pytest.approx(expected[token].item(), abs=0.03)


@pytest.mark.parametrize("wanted", [sampling(temperature=1, top_k=4), sampling(temperature=0.3)])
def test_the_greatest_draw_falls_on_a_token_that_may_be_drawn(wanted: Sampling) -> None:
    """Rounded, the greatest draw times the total of the weights may be that total."""
    rows = scores(50)
    rows[:, -20:] = -torch.inf
    tokens = chosen(rows, [wanted] * 50, [1 - 2**-53] * 50)
    for row, token in zip(rows, tokens, strict=True):
        assert as_transformers(row, wanted)[token] > 0


def test_a_draw_depends_on_seed_and_position_alone() -> None:
    assert draw(1, 5) == draw(1, 5)
    assert len({draw(seed, position) for seed in range(20) for position in range(20)}) == 400
    assert all(0 <= draw(2**63 - 1, position) < 1 for position in range(100))
    alone = chosen(scores(1), MIXED[:1], [draw(3, 0)])
    batch = chosen(scores(len(MIXED)), MIXED, [draw(3, 0)] * len(MIXED))
    assert alone[0] == batch[0]


def test_greedy_requests_take_the_best_beside_sampled_ones() -> None:
    rows = scores(3)
    tokens = chosen(rows, [sampling(), sampling(temperature=1.5), sampling()], [0.9, 0.9, 0.9])
    assert tokens[0] == rows[0].argmax()
    assert tokens[2] == rows[2].argmax()


def test_a_temperature_that_no_score_can_be_divided_by_is_greedy() -> None:
    rows = scores(2)
    assert chosen(rows, [sampling(temperature=1e-40)] * 2, [0.5, 0.5]).equal(rows.argmax(-1))


def test_requests_without_a_seed_draw_by_their_id() -> None:
    request = StreamRequest(question="q")
    assert Sampling.of("a", request) == Sampling.of("a", request)
    assert Sampling.of("a", request).seed != Sampling.of("b", request).seed
    assert Sampling.of("a", request.model_copy(update={"seed": 0})).seed == 0


def test_a_row_outgrows_its_width_and_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lore_generator.engines.histories.FIRST_WIDTH", 4)
    wanted = sampling(repetition_penalty=1.4, frequency_penalty=0.5, no_repeat_ngram_size=2)
    batch = Batch()
    states = [state_of(str(n), [n, n + 1], wanted) for n in range(40)]
    for width in (1, 3, 20, 40, 2):
        for seed in range(9):
            step = states[:width]
            rows = scores(width, seed)
            expected = [expected_token(*one) for one in zip(rows, step, strict=True)]
            assert batch.step(step, rows.clone()) == expected
