"""Which requests decode in the next step: those with credit (protocol P5).

The scheduler is transformers' FIFO scheduler with two additions. A request whose generated tokens
have reached its limit is hidden from a step's planning and keeps its KV, so it costs nothing and
resumes where it was. When memory is short, parked requests lose their KV first, the longest parked
first: their prompt and tokens go back to the waiting queue, and are read again once there is
credit. Without that, the loop would raise and die when a cache full of parked requests meets a new
one.

A prompt is read in pieces that fit into a step beside the tokens of decoding requests, which come
first. Long prompts wait for half of the time while others have work (``shares.py``).
"""

import sys
import time
from collections.abc import Container, Iterable
from dataclasses import dataclass

import torch.distributed
from transformers.generation.continuous_batching.cache import PagedAttentionCache
from transformers.generation.continuous_batching.requests import (
    FutureRequestState,
    RequestState,
    RequestStatus,
)
from transformers.generation.continuous_batching.scheduler import (
    SCHEDULER_MAPPING,
    FIFOScheduler,
)

from lore_generator.engine import EngineStats
from lore_generator.engines.sampling import decoding_of, generated_tokens
from lore_generator.engines.shares import FIRST_TOKENS, Shares

STEP_TOKENS = 64
"""What a step costs beside its tokens, in tokens, where time must not decide."""
SCHEDULER_TYPE = "lore-window"

Batch = tuple[list[FutureRequestState] | None, bool, int, int]


@dataclass(frozen=True, slots=True)
class Admit:
    """Take a request into the waiting queue."""

    state: RequestState


@dataclass(frozen=True, slots=True)
class Grant:
    """Let a request reach ``limit`` generated tokens; None for no limit."""

    key: str
    limit: int | None


@dataclass(frozen=True, slots=True)
class Plan:
    """Which requests take part in a step, and which are parked."""

    runnable: dict[str, RequestState]
    parked: dict[str, RequestState]


def has_credit(state: RequestState) -> bool:
    """Whether P5.1 allows another token. Steps do not overlap, so every token so far is counted."""
    limit = decoding_of(state).limit
    return limit is None or generated_tokens(state) < limit


def plan(states: Iterable[RequestState], back: Container[str] = ()) -> Plan:
    """Divide requests by credit, in the order given. Those in ``back`` count as parked."""
    runnable: dict[str, RequestState] = {}
    parked: dict[str, RequestState] = {}
    for state in states:
        takes_part = has_credit(state) and state.request_id not in back
        (runnable if takes_part else parked)[state.request_id] = state
    return Plan(runnable, parked)


def remaining(states: Iterable[RequestState]) -> dict[str, int]:
    """How many prompt tokens are still unread, for each request with any."""
    return {
        state.request_id: len(state.remaining_prefill_tokens)
        for state in states
        if state.status <= RequestStatus.PREFILLING
    }


def longest_parked(parked: Iterable[str], parked_since: dict[str, int]) -> str | None:
    """The request that loses its KV first. ``parked_since``: the step in which each was parked."""
    return min(parked, key=lambda key: parked_since.get(key, sys.maxsize), default=None)


class WindowScheduler(FIFOScheduler):
    """FIFO among the requests that have credit."""

    def __init__(
        self, cache: PagedAttentionCache, safety_margin: float | None, max_requests_per_batch: int
    ) -> None:
        super().__init__(cache, safety_margin, max_requests_per_batch)
        self.stats = EngineStats()
        self._step = 0
        self._parked_since: dict[str, int] = {}
        # All ranks of a group must decide alike, so they must not decide by a clock.
        group = torch.distributed
        self._is_timed = not (group.is_initialized() and group.get_world_size() > 1)
        most = cache.max_batch_tokens
        self._shares = Shares(most, min(FIRST_TOKENS, most) if self._is_timed else most)
        self._under_way: tuple[float, int, bool] | None = None
        """The step under way: when it began, its tokens, and whether it has a piece of a long
        prompt.
        """

    def set_request_cancellation(self, request_id: "str | Admit | Grant") -> None:
        """Take a command. The loop's cancel queue is its one ordered inbox, shared with every rank
        of a tensor-parallel group. Requests and grants travel through it too, so that none
        overtakes another.
        """
        command = request_id
        if isinstance(command, Admit):
            self.add_waiting_request(command.state)
        elif isinstance(command, Grant):
            state = self.active_requests.get(command.key) or self.waiting_requests.get(command.key)
            if state is not None:
                decoding_of(state).limit = command.limit
        else:
            super().set_request_cancellation(command)

    def clear_cancelled_requests(self) -> list[RequestState]:
        """Divide the requests anew. The loop calls this once a turn, before planning."""
        cancelled = super().clear_cancelled_requests()
        self._step += 1
        self._count_step()
        active = plan(self.active_requests.values())
        waiting = plan(self.waiting_requests.values())
        # Requests without KV have none to lose, so they are not listed.
        self._parked_since = {key: self._parked_since.get(key, self._step) for key in active.parked}
        self.stats = EngineStats(
            running=len(active.runnable),
            parked=len(active.parked) + len(waiting.parked),
            waiting=len(waiting.runnable),
            kv_used_ratio=self._kv_used_ratio(),
            steps=self._step,
        )
        return cancelled

    def schedule_batch(self, token_budget: int, cache_budget: int) -> Batch:
        """Plan a step. None makes the loop evict requests with credit, or die; so it is returned
        only when no parked request has KV.
        """
        while True:
            batch = self._schedule_runnable(token_budget, cache_budget)
            made_room = self._make_room()
            if batch[0] is None and not made_room:
                made_room = self._evict_longest_parked()
            if batch[0] or not made_room:
                return batch

    def _schedule_runnable(self, token_budget: int, cache_budget: int) -> Batch:
        """The FIFO scheduler's choice, with the parked requests hidden."""
        active = plan(self.active_requests.values())
        # After an eviction, the FIFO scheduler admits no request until one ends. Parked requests
        # may not end for long, but can be evicted to make room, so do not wait for them.
        if active.parked or not active.runnable:
            self.block_new_requests = False
        waiting = plan(self.waiting_requests.values())
        states = [*active.runnable.values(), *waiting.runnable.values()]
        prompts, shares = remaining(states), self._shares
        long = shares.long(prompts)
        chosen = shares.choose(prompts, others=len(long) < len(states))
        budget = token_budget
        if chosen is not None:
            budget = min(token_budget, shares.piece_tokens + len(states) - len(prompts))
        batch = self._schedule_but({*long} - {chosen}, budget, cache_budget)
        if not batch[0] and long:
            batch = self._schedule_but(set(), token_budget, cache_budget)
        if batch[0]:
            piece = any(one.state.request_id in long for one in batch[0])
            self._under_way = (time.perf_counter(), batch[2], piece)
        return batch

    def _count_step(self) -> None:
        """The previous step is over: count it."""
        if self._under_way is None:
            return
        began_s, tokens, piece = self._under_way
        self._under_way = None
        took_s = time.perf_counter() - began_s
        self._shares.on_step(took_s if self._is_timed else STEP_TOKENS + tokens, piece=piece)
        if piece and self._is_timed:
            self._shares.fit(tokens, took_s)

    def _schedule_but(self, back: set[str], token_budget: int, cache_budget: int) -> Batch:
        active = plan(self.active_requests.values(), back)
        waiting = plan(self.waiting_requests.values(), back)
        order = self.waiting_requests_order
        self.active_requests, self.waiting_requests = active.runnable, waiting.runnable
        self.waiting_requests_order = type(order)(k for k in order if k in waiting.runnable)
        try:
            return super().schedule_batch(token_budget, cache_budget)
        finally:
            self.active_requests = active.parked | self.active_requests
            self.waiting_requests = waiting.parked | self.waiting_requests
            hidden = (key for key in order if key in waiting.parked)
            self.waiting_requests_order.extendleft(reversed(list(hidden)))

    def _make_room(self) -> bool:
        """Free memory while requests with credit lack it. Returns whether any was freed."""
        if not self._short_of_memory():
            return False
        # Pages kept for prompts that may return are cheaper to lose than a request's KV.
        made_room = self.cache.evict_cached_blocks()
        self.cache.pool.try_to_free_sectors()
        while self._short_of_memory():
            if not self._evict_longest_parked():
                return made_room
            made_room = True
        # They fit now. If they stayed on this list, the loop would evict requests with credit.
        self.starved_requests = []
        return made_room

    def _short_of_memory(self) -> bool:
        if any(not self._fits(state, length) for state, length in self.starved_requests):
            return True
        if self.block_new_requests:
            return False
        waiting = (self.waiting_requests[key] for key in self.waiting_requests_order)
        first = next((state for state in waiting if has_credit(state)), None)
        if first is None:
            return False
        free = float(self.cache.compute_free_capacity())
        return free < self.safety_margin or not self._fits(first, len(first.initial_tokens))

    def _fits(self, state: RequestState, length: int) -> bool:
        return self.cache.can_store_request_tokens(state, length, dry_run=True)

    def _kv_used_ratio(self) -> float:
        """The share of KV memory in use, without pages kept only for prompts that may return."""
        idle = sum(
            len(allocator.ledger.cached_blocks) * allocator.bytes_per_block
            for allocator in self.cache.cache_allocators.values()
        )
        total = self.cache.num_sectors * self.cache.bytes_per_sector
        return 1 - float(self.cache.compute_free_capacity()) - idle / total

    def _evict_longest_parked(self) -> bool:
        parked = plan(self.active_requests.values()).parked
        key = longest_parked(parked, self._parked_since)
        if key is None:
            return False
        self.send_back(parked[key])
        return True

    def send_back(self, state: RequestState) -> None:
        """Take the KV of a request, which is read again in its turn."""
        again = state.create_equivalent_initial_request()
        self.cache.free_blocks(state.request_id, no_cache=True)
        self.cache.pool.try_to_free_sectors()
        self.finish_request(state.request_id)
        self.add_waiting_request(again)


SCHEDULER_MAPPING[SCHEDULER_TYPE] = WindowScheduler
