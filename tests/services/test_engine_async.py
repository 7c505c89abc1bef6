"""Two batches in flight, and graphs: the loop, the scheduler and the sampler, on a GPU that the
CPU plays.

Every answer is compared with the one that the same engine gives with one batch at a time.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any, Self

import pytest
import torch
from transformers.generation.continuous_batching.input_outputs import ContinuousBatchingAsyncIOs

from lore.request import KeptRequest
from lore_generator.engine import Job, Piece
from lore_generator.engines import loading
from lore_generator.engines.loading import Loaded
from lore_generator.engines.options import TransformersOptions
from lore_generator.engines.transformers_engine import TransformersEngine
from tests.services.engine_sink import Collector
from tests.services.fake_gpu import FakeGpu, fake_gpu
from tests.services.schemas import SHORT, obj
from tests.services.tiny_model import tiny_model

OPTIONS = TransformersOptions(threads=1, kv_tokens=4096, kv_page_tokens=16, slots=8)
GREEDY = {"temperature": 0, "repetition_penalty": 1.0, "max_tokens": 40}
FORM = {"type": "json_schema", "name": "f", "schema": obj(name=SHORT), "strict": True}
KINDS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "greedy, longer": {"question": "What is a set?", "max_tokens": 47},
    "repetition penalty": {"repetition_penalty": 1.3},
    "counted penalties": {"presence_penalty": 0.5, "frequency_penalty": 0.4},
    "repeated n-grams": {"no_repeat_ngram_size": 2},
    "wide draw": {"temperature": 1.0, "top_p": 1, "top_k": 0, "seed": 3},
    "narrow draw": {"temperature": 1.4, "top_p": 0.8, "top_k": 20, "seed": 4, "min_p": 0.01},
    "penalty and draw": {"temperature": 1.1, "repetition_penalty": 1.2, "seed": 5},
    "grammar": {"response_format": FORM, "temperature": 1, "seed": 6},
    "logprobs": {"logprobs": 2},
    "logprobs and draw": {"logprobs": 0, "temperature": 0.9, "seed": 7},
}
Answer = tuple[tuple[int, ...], str, tuple[object, ...]]


def ask(**given: object) -> KeptRequest:
    return KeptRequest.model_validate({"question": "Loop?", **GREEDY, **given}, strict=False)


ALL = {name: ask(**given) for name, given in KINDS.items()}


class Running:
    def __init__(self, **changed: Any) -> None:
        self.sink = Collector()
        self.engine = TransformersEngine(dataclasses.replace(OPTIONS, **changed))
        self.engine.start(self.sink)
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        alive = self.engine.alive()
        self.engine.stop()
        assert alive

    def submit(self, request: KeptRequest, limit: int | None = None, **log: Any) -> str:
        self._count += 1
        name = f"r{self._count}"
        self.engine.submit(Job(name, request, **log), limit)
        return name

    def answers(self, names: dict[str, str]) -> dict[str, Answer]:
        return {kind: self.answer(name) for kind, name in names.items()}

    def answer(self, name: str) -> Answer:
        self.sink.until_end(name)
        scored = [one for piece in self.sink.of(name) for one in piece.scored]
        # The last bits of a number depend on who else is in the batch.
        told = tuple((one.chosen.token_id, len(one.top)) for one in scored)
        return self.sink.ids(name), self.sink.text(name), told


@pytest.fixture(scope="module")
def loaded() -> Iterator[Loaded]:
    made = tiny_model()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "load", lambda _: made)
        yield made


@pytest.fixture(scope="module")
def expected(loaded: Loaded) -> dict[str, Answer]:
    """One batch at a time."""
    with Running() as running:
        answers = running.answers({kind: running.submit(one) for kind, one in ALL.items()})
    assert len({ids for ids, _, _ in answers.values()}) >= len(answers) - 1
    return answers


@pytest.fixture(scope="module")
def gpu(expected: dict[str, Answer]) -> Iterator[FakeGpu]:
    with fake_gpu() as gpu:
        yield gpu


@pytest.fixture(scope="module")
def shared(gpu: FakeGpu) -> Iterator[Running]:
    with Running(async_batching="on") as running:
        yield running


def test_each_kind_of_request_is_answered_as_with_one_batch_at_a_time(
    shared: Running, gpu: FakeGpu, expected: dict[str, Answer]
) -> None:
    gpu.most_in_flight = 0
    names = {kind: shared.submit(one) for kind, one in ALL.items()}
    assert shared.answers(names) == expected
    assert gpu.most_in_flight == 2


@pytest.mark.parametrize("async_batching", ["off", "on"])
def test_a_replayed_graph_samples_for_the_requests_of_its_own_step(
    gpu: FakeGpu, expected: dict[str, Answer], async_batching: str
) -> None:
    gpu.graphs.clear()
    with Running(async_batching=async_batching, cuda_graphs="on", kv_tokens=1024) as running:
        parked = running.submit(ALL["wide draw"], 3)
        names = {kind: running.submit(one) for kind, one in ALL.items()}
        assert running.answers(names) == expected
        running.engine.grant(parked, None)
        assert running.answer(parked) == expected["wide draw"]
    assert sum(graph.replays for graph in gpu.graphs) > 20


@pytest.mark.parametrize("kind", list(KINDS))
def test_p5_credit_counts_tokens_in_flight(
    shared: Running, gpu: FakeGpu, expected: dict[str, Answer], kind: str
) -> None:
    """The last token before each stop is fetched although no batch follows, and none comes
    beyond."""
    ids = expected[kind][0]
    name = shared.submit(ALL[kind], 1)
    for limit in (1, 2, 3, 5, 6, 13):
        shared.engine.grant(name, limit)
        shared.sink.until_tokens(name, min(limit, len(ids)))
        shared.answer(shared.submit(ask(max_tokens=4)))
        assert shared.sink.ids(name) == ids[:limit]
    shared.engine.grant(name, None)
    assert shared.answer(name) == expected[kind]
    assert gpu.in_flight == 0 or shared.engine.stats().running


def test_a_request_with_credit_for_two_is_in_two_batches_and_one_with_credit_for_one_is_not(
    shared: Running, gpu: FakeGpu
) -> None:
    for limit, most in ((1, 1), (2, 2)):
        shared.answer(shared.submit(ask(max_tokens=2)))
        gpu.most_in_flight = 0
        name = shared.submit(ask(), limit)
        shared.sink.until_tokens(name, limit)
        shared.engine.cancel(name)
        assert gpu.most_in_flight == most


def test_an_answer_in_two_batches_ends_at_its_length(shared: Running, gpu: FakeGpu) -> None:
    shared.answer(shared.submit(ask(max_tokens=2)))
    steps: list[int] = []
    processor: Any = shared.engine._manager.batch_processor
    usual = processor._generation_step

    def counted(model: Any) -> None:
        steps.append(1)
        usual(model)

    processor._generation_step = counted
    try:
        ids, _, _ = shared.answer(shared.submit(ask(max_tokens=9)))
    finally:
        processor._generation_step = usual
    assert len(ids) == len(steps) == 9


def test_p14_a_cancelled_request_says_nothing_more_and_harms_nobody(
    shared: Running, expected: dict[str, Answer]
) -> None:
    """It may have a token in flight that completes a page of its memory, which is gone."""
    others = {kind: shared.submit(one) for kind, one in ALL.items()}
    for length in range(3, 19):  # one of them, with one more, completes a page
        name = shared.submit(ask(question="x" * 40))
        shared.sink.until_tokens(name, length)
        shared.engine.cancel(name)
        said = len(shared.sink.ids(name))
        shared.answer(shared.submit(ask(max_tokens=3)))
        assert len(shared.sink.ids(name)) <= said + 2
    assert shared.answers(others) == expected


def test_p15_an_answer_is_continued_from_any_place_in_its_log(
    shared: Running, expected: dict[str, Answer]
) -> None:
    for kind in ("greedy", "penalty and draw", "grammar"):
        ids, text, _ = expected[kind]
        for at in (1, 4, len(ids) - 1):
            name = shared.submit(ALL[kind], generated_ids=ids[:at])
            got, said, _ = shared.answer(name)
            assert (ids[:at] + got, said) == (ids, text)


def test_p7_a_held_request_is_parked_with_what_was_in_flight(
    shared: Running, expected: dict[str, Answer]
) -> None:
    name = shared.submit(ALL["greedy"])
    shared.sink.until_tokens(name, 3)
    shared.engine.hold(name)
    shared.answer(shared.submit(ask(max_tokens=4)))
    held = shared.sink.ids(name)
    shared.answer(shared.submit(ask(max_tokens=4)))
    assert shared.sink.ids(name) == held
    shared.engine.grant(name, None)
    assert shared.answer(name) == expected["greedy"]


@pytest.mark.parametrize("limit", [3, None], ids=["parked", "running"])
def test_requests_that_do_not_fit_together_take_turns(
    gpu: FakeGpu, expected: dict[str, Answer], limit: int | None
) -> None:
    """Parked ones lose their KV, and running ones that of a page that they have not got."""
    with Running(async_batching="on", kv_tokens=192, kv_page_tokens=16) as small:
        names = {kind: small.submit(one, limit) for kind, one in ALL.items()}
        if limit is not None:
            for name in names.values():
                small.sink.until_tokens(name, limit)
            for name in names.values():
                small.engine.grant(name, None)
        assert small.answers(names) == expected


def test_a_step_that_runs_out_of_memory_fails_its_request_alone(
    shared: Running, expected: dict[str, Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch before it is in flight, and its tokens are kept."""
    processor: Any = shared.engine._manager.batch_processor
    runner = processor.model_runner
    compute = runner.compute_batch
    failures: list[int] = []

    def tight(model: Any, batch_data: dict[str, Any]) -> None:
        if batch_data["max_length_q"] > 100:
            failures.append(shared.engine._scheduler.steps_in_flight)
            raise torch.OutOfMemoryError("out of memory")
        compute(model, batch_data)

    monkeypatch.setattr(runner, "compute_batch", tight)
    kinds = ("greedy, longer", "penalty and draw", "grammar", "logprobs")
    others = {kind: shared.submit(ALL[kind]) for kind in kinds}
    for name in others.values():
        shared.sink.until_tokens(name, 3)  # their own prompts are read
    ended: Piece = shared.sink.until_end(shared.submit(ask(question="x " * 150)))
    assert (ended.finish_reason, ended.token_ids) == ("error", ())
    assert shared.answers(others) == {kind: expected[kind] for kind in kinds}
    assert failures == [1]


@pytest.mark.parametrize("option", ["async_batching", "cuda_graphs"])
def test_both_need_a_gpu(loaded: Loaded, monkeypatch: pytest.MonkeyPatch, option: str) -> None:
    monkeypatch.setattr(ContinuousBatchingAsyncIOs, "_supported_device_types", ("cuda",))
    on: dict[str, Any] = {option: "on"}
    with pytest.raises(ValueError, match=f"LORE_{option.upper()}=on needs a GPU"):
        TransformersEngine(dataclasses.replace(OPTIONS, **on)).start(Collector())
    auto: dict[str, Any] = {option: "auto"}
    with Running(**auto) as running:
        running.answer(running.submit(ask(max_tokens=2)))
