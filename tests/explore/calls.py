"""What a generator asks of the store, and the owner that it makes of a claim."""

from collections.abc import Sequence
from typing import Any

from lore.protocol.assembly import CoalesceConfig
from lore.protocol.chunk import Chunk
from lore.protocol.commands import Append, Finish, Reinstate, Release, Renew
from lore.protocol.messages import Claimed, Position
from lore.protocol.owner import Owner, Terms
from lore.protocol.producer import Producer
from lore.protocol.window import Window, WindowConfig
from tests.explore.depot import LEASE_MS, OWNER, PARTITION, REQUEST, RETENTION_MS, Depot
from tests.sim import calls

Call = Append | Finish | Reinstate | Release | Renew

TERMS = Terms(OWNER, LEASE_MS / 1000, RETENTION_MS)


def renewal(owner: Owner) -> Renew:
    return Renew(PARTITION, OWNER, LEASE_MS, ((REQUEST, owner.epoch, owner.log_id),))


def epoch_of(call: Call) -> int:
    if isinstance(call, Reinstate):
        return call.view.epoch
    return call.leases[0][1] if isinstance(call, Renew) else call.epoch


def words(call: Call) -> str:
    epoch = epoch_of(call)
    match call:
        case Append():
            seqs = ", ".join(str(chunk.seq) for chunk in call.chunks) or "no chunk"
            return f"the append of {seqs} by epoch {epoch}"
        case Finish():
            return f"the end by epoch {epoch}"
        case Renew():
            return f"the renewal of epoch {epoch}"
        case Release():
            return f"the release by epoch {epoch}"
        case Reinstate():
            return f"what epoch {epoch} gives back"


def in_order(*some: Call) -> tuple[Call, ...]:
    """Calls that may be done in any order, in one of them."""
    return tuple(sorted(some, key=repr))


def perform(call: Call, depot: Depot) -> tuple[Position, Depot]:
    after = depot

    def do(method: str, _: str, *args: Any, **kwargs: Any) -> Any:
        nonlocal after
        result, after = depot.call(method, *args, **kwargs)
        return result

    answer = calls.perform(call, do)
    return answer[0] if isinstance(call, Renew) else answer, after


def owner_of(claimed: Claimed, history: Sequence[Chunk], asked_s: float) -> Owner:
    view = claimed.view
    window = Window(
        WindowConfig.fixed(view.window),
        size=view.window,
        acked_tokens=view.acked_tokens,
        generated_tokens=view.generated_tokens,
    )
    producer = Producer(history, window, CoalesceConfig(max_delay_s=0.0))
    return Owner(claimed, PARTITION, producer, TERMS, asked_s)
