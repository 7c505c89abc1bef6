"""Which requests decode in the next step: those with credit (protocol P5).

The scheduler is transformers' FIFO scheduler with two additions. A request whose generated tokens
have reached its limit is hidden from a step's planning and keeps its KV, so it costs nothing and
resumes where it was. When memory is short, parked requests lose their KV first, those furthest
ahead of their readers first: their prompt and tokens go back to the waiting queue, and are read
again once there is credit. Without that, the loop would raise and die when a cache full of parked
requests meets a new one.

With asynchronous batching, a step is planned while the batch before it is still computed. A token
in flight counts against the credit and against the answer's maximum length, and its request keeps
its KV until the token is known. A step that has to wait for tokens is empty: ``fetching.py`` then
fetches them, and the loop plans again.

A prompt is read in pieces that fit into a step beside the tokens of decoding requests, which come
first. Long prompts wait for half of the time while others have work (``shares.py``).
"""

import sys
import time
from collections import deque
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
from lore_generator.engines.sampling import decoding_of, generated_tokens, in_flight
from lore_generator.engines.shares import FIRST_TOKENS, Shares

STEP_TOKENS = 64
"""What a step costs beside its tokens, in tokens, where time must not decide."""
SCHEDULER_TYPE = "lore-window"

Batch = tuple[list[FutureRequestState] | None, bool, int, int]


@dataclass(frozen=True, slots=True)
class Enqueue:
    """Take a request into the waiting queue."""

    state: RequestState


@dataclass(frozen=True, slots=True)
class Grant:
    """Let a request reach ``limit`` generated tokens; None for no limit."""

    key: str
    limit: int | None


@dataclass(frozen=True, slots=True)
class Park:
    """A request without credit is so far ahead of its reader."""

    key: str
    ahead_tokens: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Which requests take part in a step, and which are parked."""

    runnable: dict[str, RequestState]
    parked: dict[str, RequestState]


def has_credit(state: RequestState) -> bool:
    """Whether P5.1 allows another token, beside those that are known and those in flight."""
    limit, most = decoding_of(state).limit, state.max_new_tokens
    flying = in_flight(state)
    if flying and most is not None and len(state.generated_tokens) + flying >= most:
        return False
    return limit is None or generated_tokens(state) + flying < limit


def is_ready(state: RequestState) -> bool:
    """Whether it can take part in the next step: it has credit, and its sampling does not wait for
    a token in flight."""
    return has_credit(state) and not (in_flight(state) and decoding_of(state).is_sequential)


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


def furthest_ahead(parked: Iterable[RequestState], parked_since: dict[str, int]) -> str | None:
    """The request that loses its KV first: the furthest ahead of its reader, and of equals the
    longest parked. ``parked_since``: the step in which each was parked.
    """

    def needed(state: RequestState) -> tuple[int, int]:
        key = state.request_id
        return -decoding_of(state).ahead_tokens, parked_since.get(key, sys.maxsize)

    first = min(parked, key=needed, default=None)
    return None if first is None else first.request_id


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
        self._under_way: deque[tuple[float, int, bool]] = deque()
        """The steps under way: when each was planned, its tokens, and whether it has a piece of a
        long prompt.
        """
        self._counted_s = 0.0
        self.steps_in_flight = 0
        """How many steps are still computed when the next is planned; ``fetching.py`` says."""

    def set_request_cancellation(self, request_id: "str | Enqueue | Grant") -> None:
        """Take a command. The loop's cancel queue is its one ordered inbox, shared with every rank
        of a tensor-parallel group. Requests and grants travel through it too, so that none
        overtakes another.
        """
        command = request_id
        if isinstance(command, Enqueue):
            self.add_waiting_request(command.state)
        elif isinstance(command, Grant | Park):
            state = self.active_requests.get(command.key) or self.waiting_requests.get(command.key)
            if state is not None and isinstance(command, Grant):
                decoding_of(state).limit = command.limit
            elif state is not None and isinstance(command, Park):
                decoding_of(state).ahead_tokens = command.ahead_tokens
        else:
            super().set_request_cancellation(command)

    def clear_cancelled_requests(self) -> list[RequestState]:
        """Divide the requests anew. The loop calls this once a turn, before planning."""
        cancelled = super().clear_cancelled_requests()
        for state in cancelled:
            # Or the loop would give the token that is in flight a place in memory that is gone.
            state.status = RequestStatus.FINISHED
        self._step += 1
        self._count_steps()
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
                made_room = self._evict_parked()
            if batch[0] or not made_room:
                break
        flying = [state for state in self.active_requests.values() if in_flight(state)]
        if batch[0] is None and flying:
            return [], False, 0, 0
        if any(not has_credit(state) for state in flying):
            # These can give up their KV in the next step, so nobody with credit has to in this one.
            self.starved_requests = []
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
            self._under_way.append((time.perf_counter(), batch[2], piece))
        return batch

    def _count_steps(self) -> None:
        """Count the steps that are over. One that was planned early began when the one before it
        ended.
        """
        while len(self._under_way) > self.steps_in_flight:
            planned_s, tokens, piece = self._under_way.popleft()
            now_s = time.perf_counter()
            took_s = now_s - max(planned_s, self._counted_s)
            self._counted_s = now_s
            self._shares.on_step(took_s if self._is_timed else STEP_TOKENS + tokens, piece=piece)
            if piece and self._is_timed:
                self._shares.fit(tokens, took_s)

    def _schedule_but(self, back: set[str], token_budget: int, cache_budget: int) -> Batch:
        unready = {key for key, state in self.active_requests.items() if not is_ready(state)}
        active = plan(self.active_requests.values(), back | unready)
        waiting = plan(self.waiting_requests.values(), back)
        order = self.waiting_requests_order
        self.active_requests, self.waiting_requests = active.runnable, waiting.runnable
        self.waiting_requests_order = type(order)(k for k in order if k in waiting.runnable)
        try:
            batch = super().schedule_batch(token_budget, cache_budget)
            # The loop evicts who is starved, and would lose a token in flight.
            self.starved_requests = [one for one in self.starved_requests if not in_flight(one[0])]
            return batch
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
            if not self._evict_parked():
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

    def _evict_parked(self) -> bool:
        settled = (state for state in self.active_requests.values() if not in_flight(state))
        parked = plan(settled).parked
        key = furthest_ahead(parked.values(), self._parked_since)
        if key is None:
            return False
        self.send_back(parked[key])
        return True

    def send_back(self, state: RequestState) -> None:
        """Take the KV of a request without a token in flight. It is read again in its turn."""
        again = state.create_equivalent_initial_request()
        self.cache.free_blocks(state.request_id, no_cache=True)
        self.cache.pool.try_to_free_sectors()
        self.finish_request(state.request_id)
        self.add_waiting_request(again)


SCHEDULER_MAPPING[SCHEDULER_TYPE] = WindowScheduler
