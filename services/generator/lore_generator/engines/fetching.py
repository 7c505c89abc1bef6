"""Asynchronous batching: what is in flight when a step is planned, and fetching it.

transformers' loop plans a step while the device computes the batch before, and asks for a batch's
tokens only after it has launched the next one. When no other follows, because all requests are
parked or must know their last token first, the tokens would stay on the device. So the batch in
flight is fetched whenever a plan is empty, and the loop plans again.
"""

from collections.abc import Sequence

from transformers.generation.continuous_batching.continuous_api import ContinuousBatchProcessor
from transformers.generation.continuous_batching.input_outputs import (
    ContinuousBatchingAsyncIOs,
    ContinuousBatchingIOs,
)
from transformers.generation.continuous_batching.requests import FutureRequestState

from lore_generator.engines.window_scheduler import WindowScheduler

# Like ``shortage.py``, this relies on how transformers (>=5.23,<6) divides a turn of its loop:
# ``prepare_next_batch`` fills the current pair of buffers, the step launches it and swaps the
# pairs, ``update_batch`` reads the pair that is then current. A pair without requests is no batch.


def latest_batch(processor: ContinuousBatchProcessor) -> Sequence[FutureRequestState]:
    """The batch that was prepared last and is not launched: its step has failed."""
    buffers = processor.inputs_and_outputs
    if isinstance(buffers, ContinuousBatchingAsyncIOs):
        return _host(buffers, buffers.current_pair).requests_in_batch
    return buffers.requests_in_batch


def fetch(processor: ContinuousBatchProcessor) -> None:
    """Wait for the batch in flight, and give its tokens to its requests. After this, nothing is in
    flight; a batch that was prepared and not launched is forgotten.
    """
    buffers = processor.inputs_and_outputs
    if not isinstance(buffers, ContinuousBatchingAsyncIOs):
        return
    buffers.swap_io_pairs()
    processor.update_batch()
    for pair in range(len(buffers.io_pairs)):
        host = _host(buffers, pair)
        host.requests_in_batch = []
        # The host knows all tokens now, so the next batch must take none from the one before it.
        host.req_id_to_new_token_position = {}


def fetch_before_idle(processor: ContinuousBatchProcessor) -> None:
    """Have the loop fetch the batch in flight when nothing else can be planned beside it."""
    buffers, scheduler = processor.inputs_and_outputs, processor.scheduler
    assert isinstance(buffers, ContinuousBatchingAsyncIOs)
    assert isinstance(scheduler, WindowScheduler)
    prepare = processor.prepare_next_batch

    def prepare_or_fetch() -> bool:
        in_flight = _host(buffers, 1 - buffers.current_pair).requests_in_batch
        scheduler.steps_in_flight = 1 if in_flight else 0
        if prepare():
            return True
        if not in_flight:
            return False
        fetch(processor)
        scheduler.steps_in_flight = 0
        return prepare()

    # The library has no hook here.
    processor.prepare_next_batch = prepare_or_fetch


def _host(buffers: ContinuousBatchingAsyncIOs, pair: int) -> ContinuousBatchingIOs:
    return buffers.io_pairs[pair].host_io
