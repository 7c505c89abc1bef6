"""What a generator asks of the store, and the producer that it makes of a claim."""

from collections.abc import Sequence
from typing import NamedTuple

from lore.protocol.assembly import CoalesceConfig
from lore.protocol.chunk import Chunk
from lore.protocol.lifecycle import Status
from lore.protocol.producer import Append, Producer
from lore.protocol.window import Window, WindowConfig
from lore.store.base import Position, View
from tests.explore.depot import LEASE_MS, OWNER, RETENTION_MS, Depot


class Call(NamedTuple):
    method: str
    epoch: int
    log_id: str = ""
    append: Append | None = None

    def __str__(self) -> str:
        if self.append is None:
            return f"the renewal of epoch {self.epoch}"
        if self.method == "finish":
            return f"the end by epoch {self.epoch}"
        seqs = ", ".join(str(chunk.seq) for chunk in self.append.chunks) or "no chunk"
        return f"the append of {seqs} by epoch {self.epoch}"


def in_order(*calls: Call) -> tuple[Call, ...]:
    """Calls that may be done in any order, in one of them."""
    return tuple(sorted(calls, key=repr))


def perform(call: Call, depot: Depot) -> tuple[Position, Depot]:
    if call.append is None:
        return depot.call("renew", OWNER, call.epoch, call.log_id, lease_ms=LEASE_MS)
    if call.method == "finish":
        return depot.call(
            *("finish", OWNER, call.epoch, call.append.next_seq),
            log_id=call.log_id,
            status=Status.DONE,
            finish_reason="stop",
            retention_ms=RETENTION_MS,
        )
    return depot.call(
        *("append", OWNER, call.epoch, call.append.chunks),
        log_id=call.log_id,
        window=call.append.window,
        reopen_tokens=call.append.reopen_tokens,
        lease_ms=LEASE_MS,
    )


def producer_of(view: View, history: Sequence[Chunk]) -> Producer:
    window = Window(
        WindowConfig.fixed(view.window),
        size=view.window,
        acked_tokens=view.acked_tokens,
        generated_tokens=view.generated_tokens,
    )
    return Producer(history, window, CoalesceConfig(max_delay_s=0.0))
