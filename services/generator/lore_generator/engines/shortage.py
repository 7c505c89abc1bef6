"""A step that runs out of memory: the request that caused it fails, the others continue."""

from collections.abc import Callable, Sequence

import structlog
import torch
from transformers.generation.continuous_batching.continuous_api import (
    ContinuousBatchingManager,
    ContinuousBatchProcessor,
)
from transformers.generation.continuous_batching.requests import (
    FutureRequestState,
    RequestStatus,
)

from lore_generator.engines.fetching import fetch, latest_batch
from lore_generator.engines.window_scheduler import WindowScheduler

OUT_OF_MEMORY = (MemoryError, torch.OutOfMemoryError)

log = structlog.get_logger()


def to_blame(batch: Sequence[FutureRequestState]) -> str | None:
    """The key of the request whose prompt was read in the step, or that was alone in it; None when
    no single request is to blame.
    """
    suspects = [one for one in batch if one.query_length > 1] or batch
    return suspects[0].state.request_id if len(suspects) == 1 else None


def survive(manager: ContinuousBatchingManager, fail: Callable[[str], None]) -> None:
    """Have the loop call ``fail`` with the key of the request that took too much, and continue.

    The KV that the step should have written is in doubt, so the others are read again. If no
    request is to blame, the loop dies as before, and other generators take over.
    """
    # The library has no hook around a step, so two of its methods are wrapped.
    step, turn = manager._generation_step, manager._generation_loop_body  # noqa: SLF001
    short = False

    def guarded_step() -> None:
        nonlocal short
        try:
            step()
        except OUT_OF_MEMORY:
            short = True
            raise

    def guarded_turn(batch_processor: ContinuousBatchProcessor, bootstrapping: bool) -> bool:
        nonlocal short
        try:
            return turn(batch_processor, bootstrapping)
        except OUT_OF_MEMORY as error:
            batch = list(latest_batch(batch_processor))
            key = to_blame(batch) if short else None
            if key is None:
                raise
            log.warning("out of memory in a step", reason=str(error).partition("\n")[0])
        short = False
        fetch(batch_processor)  # the batch before has not failed, and its tokens are wanted
        scheduler = batch_processor.scheduler
        assert isinstance(scheduler, WindowScheduler)
        for one in batch:
            if one.state.request_id == key:
                scheduler.finish_request(key)
            elif one.state.status != RequestStatus.FINISHED:
                scheduler.send_back(one.state)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        fail(key)
        return True

    manager._generation_step = guarded_step  # noqa: SLF001
    manager._generation_loop_body = guarded_turn  # noqa: SLF001
