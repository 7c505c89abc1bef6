"""What a generator asks of the store, and the producer that it makes of a claim."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from lore.protocol.assembly import CoalesceConfig
from lore.protocol.chunk import Chunk
from lore.protocol.fork import fork
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


def give_back(
    view: View, producer: Producer, depot: Depot, *, alone: bool
) -> tuple[Position, View, Depot]:
    """What its owner knows of a request, to a store that does not, as ``Owned.known``."""
    chunks = producer.made if alone else producer.stored
    acked_tokens = producer.window.acked_tokens
    acked_seq = next((c.seq for c in chunks if 0 < acked_tokens == c.tokens), 0)
    view = replace(view, acked_seq=acked_seq, acked_tokens=acked_tokens if acked_seq else 0)
    if not alone:
        view = replace(
            view,
            log_id=f"{view.log_id}/{view.epoch}/{depot.runs}",
            forks=fork(view.forks, view.log_id, len(chunks) + 1),
        )
    position, after = depot.call("reinstate", view, "", chunks, lease_ms=LEASE_MS)
    return position, view, after


def producer_of(view: View, history: Sequence[Chunk]) -> Producer:
    window = Window(
        WindowConfig.fixed(view.window),
        size=view.window,
        acked_tokens=view.acked_tokens,
        generated_tokens=view.generated_tokens,
    )
    return Producer(history, window, CoalesceConfig(max_delay_s=0.0))
