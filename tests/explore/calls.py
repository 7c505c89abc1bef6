"""What a generator asks of the store."""

from typing import NamedTuple

from lore.protocol.lifecycle import Status
from lore.protocol.producer import Append
from lore.store.base import Position
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
