"""Sampling agrees with transformers' own processors, row by row, whatever else is in the batch."""

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

from lore.request import StreamRequest
from lore_generator.engines.sampling import (
    Decoding,
    History,
    Sampling,
    candidates,
    choose,
    draw,
    penalise,
)

VOCABULARY = 97


def sampling(**changed: object) -> Sampling:
    plain = {"temperature": 0, "top_p": 1, "top_k": 0, "repetition_penalty": 1}
    request = StreamRequest.model_validate({"question": "q", **plain, **changed})
    return Sampling.of("a", request)


def scores(rows: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, VOCABULARY, generator=torch.Generator().manual_seed(seed)) * 3


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


@pytest.mark.parametrize("together", [MIXED, MIXED[:1], [MIXED[2], MIXED[4]]])
def test_what_may_be_drawn_is_what_transformers_leaves(together: list[Sampling]) -> None:
    rows = scores(len(together))
    weights, tokens = candidates(rows, together)
    for row, wanted, weight, token in zip(rows, together, weights, tokens, strict=True):
        ours = torch.zeros(VOCABULARY, dtype=torch.float64).scatter_(0, token, weight)
        expected = as_transformers(row, wanted)
        assert torch.equal(ours > 0, expected > 0)
        torch.testing.assert_close(ours / ours.sum(), expected.double(), atol=1e-6, rtol=1e-5)


def test_draws_follow_the_probabilities() -> None:
    wanted = sampling(temperature=1, top_k=4)
    row = scores(1)
    rows = row.expand(4000, -1)
    draws = [draw(7, position) for position in range(4000)]
    counted = Counter(choose(rows, [wanted] * 4000, draws).tolist())
    expected = as_transformers(row[0], wanted)
    assert set(counted) == set(torch.nonzero(expected).flatten().tolist())
    for token, count in counted.items():
        assert count / 4000 == pytest.approx(expected[token].item(), abs=0.03)


def test_a_draw_depends_on_seed_and_position_alone() -> None:
    assert draw(1, 5) == draw(1, 5)
    assert len({draw(seed, position) for seed in range(20) for position in range(20)}) == 400
    assert all(0 <= draw(2**63 - 1, position) < 1 for position in range(100))
    alone = choose(scores(1), MIXED[:1], [draw(3, 0)])
    batch = choose(scores(len(MIXED)), MIXED, [draw(3, 0)] * len(MIXED))
    assert alone[0] == batch[0]


def test_greedy_requests_take_the_best_beside_sampled_ones() -> None:
    rows = scores(3)
    wanted = [sampling(), sampling(temperature=1.5), sampling()]
    chosen = choose(rows, wanted, [0.9, 0.9, 0.9])
    assert chosen[0] == rows[0].argmax()
    assert chosen[2] == rows[2].argmax()


def test_requests_without_a_seed_draw_by_their_id() -> None:
    request = StreamRequest(question="q")
    assert Sampling.of("a", request) == Sampling.of("a", request)
    assert Sampling.of("a", request).seed != Sampling.of("b", request).seed
    assert Sampling.of("a", request.model_copy(update={"seed": 0})).seed == 0


def decoding(tokens: list[int], wanted: Sampling) -> Decoding:
    history = History(wanted.no_repeat_ngram_size)
    for token in tokens:
        history.extend([token])
    return Decoding(0, None, wanted, history)


@pytest.mark.parametrize("penalty", [0.5, 1.0, 1.1, 2.0])
@pytest.mark.parametrize("ngram", [0, 1, 2, 3])
def test_penalties_are_those_of_transformers(penalty: float, ngram: int) -> None:
    tokens = [5, 6, 7, 5, 6, 9, 5, 6]
    plain = decoding([1, 2, 1, 2, 1], sampling())
    wanted = decoding(tokens, sampling(repetition_penalty=penalty, no_repeat_ngram_size=ngram))
    rows = scores(2)
    untouched = rows[0].clone()
    expected = rows[1:].clone()
    ids = torch.LongTensor([tokens])
    expected = RepetitionPenaltyLogitsProcessor(penalty)(ids, expected)
    if ngram:
        expected = NoRepeatNGramLogitsProcessor(ngram)(ids, expected)
    penalise(rows, [plain, wanted])
    assert torch.equal(rows[0], untouched)
    torch.testing.assert_close(rows[1:], expected)
