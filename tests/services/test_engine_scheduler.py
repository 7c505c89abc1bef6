"""Who decodes in a step: the window-aware scheduler's decisions, without a model."""

from typing import Any, cast

import pytest
from transformers.generation.continuous_batching.requests import FutureRequestState, RequestState
from transformers.generation.continuous_batching.scheduler import FIFOScheduler

from lore_generator.engines.sampling import (
    DECODING_KEY,
    Decoding,
    Sampling,
    decoding_of,
    generated_tokens,
)
from lore_generator.engines.window_scheduler import (
    Batch,
    WindowScheduler,
    furthest_ahead,
    has_credit,
    plan,
)

GREEDY = Sampling(0, 1, 0, 1, 0, 0, 0, 0, 0)


def state(key: str, limit: int | None, generated: int, log: int = 0) -> RequestState:
    """A request with a prompt of 3 tokens, ``log`` tokens from a log and ``generated`` new ones."""
    decoding = Decoding(3, limit, GREEDY)
    made = RequestState(key, [1] * (3 + log), logit_processor_kwargs={DECODING_KEY: decoding})
    made.generated_tokens = [2] * generated
    return made


@pytest.mark.parametrize(
    ("limit", "generated", "log", "expected"),
    [
        (None, 500, 0, True),
        (0, 0, 0, False),
        (1, 0, 0, True),
        (5, 4, 0, True),
        (5, 5, 0, False),
        (5, 1, 4, False),
        (5, 0, 4, True),
    ],
)
def test_a_request_decodes_while_its_tokens_are_below_its_limit(
    limit: int | None, generated: int, log: int, expected: bool
) -> None:
    """P5: the limit counts the log's tokens too."""
    assert has_credit(state("a", limit, generated, log)) is expected


def test_a_request_that_lost_its_kv_keeps_its_count_and_its_limit() -> None:
    again = state("a", 9, generated=4, log=2).create_equivalent_initial_request()
    assert generated_tokens(again) == 6
    assert decoding_of(again).limit == 9


def test_a_plan_keeps_the_order_within_each_side() -> None:
    states = [state("a", 1, 1), state("b", 9, 1), state("c", None, 1), state("d", 0, 0)]
    planned = plan(states)
    assert list(planned.runnable) == ["b", "c"]
    assert list(planned.parked) == ["a", "d"]


@pytest.mark.rule("P20.9")
@pytest.mark.parametrize(
    ("ahead", "since", "first"),
    [
        ({"a": 9, "b": 40, "c": 20}, {"a": 1, "b": 2, "c": 3}, "b"),
        ({"a": 32, "b": 32, "c": 32}, {"a": 7, "b": 2, "c": 4}, "b"),
        ({"a": 0, "new": 0}, {"a": 7}, "a"),
        ({}, {"a": 7}, None),
    ],
)
def test_the_furthest_ahead_gives_up_its_memory_first_then_the_longest_parked(
    ahead: dict[str, int], since: dict[str, int], first: str | None
) -> None:
    parked = [state(key, limit=1, generated=1) for key in ahead]
    for one in parked:
        decoding_of(one).ahead_tokens = ahead[one.request_id]
    assert furthest_ahead(parked, since) == first


class TightCache:
    """Says what a paged cache says of its memory: one page, in use or kept for later."""

    max_batch_tokens = 512

    def __init__(self, *, kept: bool) -> None:
        self.kept = kept
        self.holders: set[str] = set()
        self.pool = self

    def try_to_free_sectors(self) -> None: ...

    def free_blocks(self, key: str, no_cache: bool = False) -> None:
        self.holders.discard(key)

    def evict_cached_blocks(self) -> bool:
        kept, self.kept = self.kept, False
        return kept

    def compute_free_capacity(self) -> float:
        return 0.0 if self.kept or self.holders else 1.0

    def can_store_request_tokens(self, state: RequestState, length: int, dry_run: bool) -> bool:
        return not self.kept and not self.holders


def tight(*, kept: bool = False, parked: bool = False, starved: bool = True) -> WindowScheduler:
    """A scheduler whose FIFO part finds nothing that fits until the one page is free."""
    cache: Any = TightCache(kept=kept)
    scheduler = WindowScheduler(cache, None, 4)
    if parked:
        scheduler.active_requests["parked"] = state("parked", 1, 1)
        cache.holders.add("parked")
    hungry = state("hungry", None, 1)

    def fifo(token_budget: int, cache_budget: int) -> Batch:
        fits = cache.can_store_request_tokens(hungry, 1, dry_run=True)
        scheduler.starved_requests = [] if fits or not starved else [(hungry, 1)]
        chosen = [FutureRequestState(hungry, True, {}, 1)]
        return (chosen if fits else None), False, 0, 0

    scheduler._schedule_runnable = fifo
    return scheduler


@pytest.mark.parametrize("starved", [True, False])
def test_parked_requests_give_way_before_the_loop_is_told_that_nothing_fits(starved: bool) -> None:
    scheduler = tight(parked=True, starved=starved)
    assert scheduler.schedule_batch(1, 1)[0]
    assert not scheduler.active_requests
    assert list(scheduler.waiting_requests) == ["parked"]
    assert scheduler.starved_requests == []


def test_pages_kept_for_later_give_way_before_parked_requests() -> None:
    """Once they have, the loop would find nothing more to evict, and die: so plan again."""
    scheduler = tight(kept=True)
    scheduler.active_requests["parked"] = state("parked", 1, 1)
    assert scheduler.schedule_batch(1, 1)[0]
    assert list(scheduler.active_requests) == ["parked"]


def test_the_loop_is_told_when_nobody_is_parked() -> None:
    scheduler = tight()
    cast("TightCache", scheduler.cache).holders.add("somebody with credit")
    assert scheduler.schedule_batch(1, 1)[0] is None
    assert scheduler.starved_requests


def test_nobody_loses_its_kv_with_a_token_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty plan has the loop fetch the token first."""
    scheduler = tight(parked=True)
    parked = scheduler.active_requests["parked"]
    parked.position_offset = 4
    assert scheduler.schedule_batch(1, 1)[0] == []
    assert list(scheduler.active_requests) == ["parked"]
    parked.position_offset = 3
    assert scheduler.schedule_batch(1, 1)[0]

    flying, settled = state("flying", None, 1), state("settled", None, 1)
    flying.position_offset = 4

    def starves(self: WindowScheduler, *_: int) -> Batch:
        self.starved_requests = [(flying, 1), (settled, 1)]
        return [], False, 0, 0

    monkeypatch.setattr(FIFOScheduler, "schedule_batch", starves)
    scheduler._schedule_but(set(), 1, 1)
    assert scheduler.starved_requests == [(settled, 1)]
