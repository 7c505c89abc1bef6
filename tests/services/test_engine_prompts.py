"""Whose prompt is read when: the scheduler's turns on a cache that holds everything."""

import itertools
from types import SimpleNamespace
from typing import Any

import pytest
from transformers.generation.continuous_batching.requests import RequestState

from lore.request import StreamRequest
from lore_generator.engines import window_scheduler
from lore_generator.engines.sampling import DECODING_KEY, Decoding, Sampling
from lore_generator.engines.window_scheduler import WindowScheduler

STEP_TOKENS = 8
SLOTS = 4


@pytest.fixture(autouse=True)
def steps_as_long_as_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shares are of time."""
    clock = SimpleNamespace(perf_counter=itertools.count().__next__)
    monkeypatch.setattr(window_scheduler, "time", clock)


class RoomyCache:
    max_batch_tokens = STEP_TOKENS
    max_blocks_per_request = 0
    max_decode_fast_path_length = 0
    read_cache_limit = None
    use_prefix_sharing = False
    num_sectors = bytes_per_sector = 1
    cache_allocators: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self) -> None:
        self.pool = self

    def try_to_free_sectors(self) -> None: ...

    def free_blocks(self, key: str, no_cache: bool = False) -> None: ...

    def compute_free_capacity(self) -> float:
        return 1.0

    def can_store_request_tokens(self, state: RequestState, n: int, dry_run: bool = False) -> bool:
        return True

    def count_new_complete_blocks(self, state: RequestState, n: int) -> dict[str, int]:
        return {}


class Loop:
    """The library's loop without a model: every request that is due gets a token."""

    def __init__(self) -> None:
        cache: Any = RoomyCache()
        self.scheduler = WindowScheduler(cache, None, SLOTS)
        self.read: dict[str, int] = {}

    def submit(self, name: str, prompt: int) -> None:
        decoding = Decoding(
            prompt, None, Sampling.of(name, StreamRequest(question="?", temperature=0))
        )
        kwargs = {DECODING_KEY: decoding}
        self.scheduler.add_waiting_request(
            RequestState(name, [1] * prompt, logit_processor_kwargs=kwargs)
        )

    def step(self) -> set[str]:
        """One turn. Returns whose answer grew."""
        self.scheduler.clear_cancelled_requests()
        grew: set[str] = set()
        batch = self.scheduler.schedule_batch(STEP_TOKENS, 10**6)[0] or []
        assert sum(future.query_length for future in batch) <= STEP_TOKENS
        for future in batch:
            state = future.state
            self.read[state.request_id] = self.read.get(state.request_id, 0) + future.query_length
            if future.has_new_token:
                state.generated_tokens.append(2)
                state.tokens_to_process = [2]
                grew.add(state.request_id)
        return grew

    def end(self, name: str) -> None:
        self.scheduler.finish_request(name)


def test_answers_go_on_while_a_long_prompt_is_read() -> None:
    loop = Loop()
    loop.submit("a", 3)
    loop.submit("b", 3)
    while loop.step() != {"a", "b"}:
        pass
    loop.submit("long", 100)
    steps = 0
    while "long" not in (grew := loop.step()):
        assert grew == {"a", "b"}
        steps += 1
    assert steps >= 100 / STEP_TOKENS - 1


def test_a_short_prompt_passes_the_long_ones_that_are_being_read() -> None:
    loop = Loop()
    loop.submit("long", 1000)
    loop.submit("also long", 1000)
    for _ in range(5):
        assert loop.step() == set()
    loop.submit("short", STEP_TOKENS)
    assert "short" in loop.step() | loop.step()


def test_short_prompts_without_end_do_not_hold_up_a_long_one() -> None:
    loop = Loop()
    loop.submit("long", 20 * STEP_TOKENS)
    for number in range(50):
        loop.submit(f"short {number}", STEP_TOKENS)
        grew = loop.step()
        if "long" in grew:
            return
        for name in grew:
            loop.end(name)
    raise AssertionError("never read")


def test_a_long_prompt_alone_is_read_in_every_step() -> None:
    loop = Loop()
    loop.submit("long", 10 * STEP_TOKENS)
    for pieces in range(1, 11):
        loop.step()
        assert loop.read["long"] == pieces * STEP_TOKENS
