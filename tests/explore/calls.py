"""What a generator asks of the store, what it claims, and the owner that it makes of that."""

from collections.abc import Sequence

from lore.protocol.chunk import Chunk
from lore.protocol.commands import Append, Claim, Finish, Reinstate, Release, Renew
from lore.protocol.messages import Claimed, Position
from lore.protocol.owner import Owner
from lore.protocol.owner_types import Terms
from lore.protocol.producer import CoalesceConfig, Producer
from lore.protocol.window import Window, WindowConfig
from lore.store.memory.state import StoreState
from lore.store.types import NewRequest, Open
from tests.explore.depot import LEASE_MS, OWNER, PARTITION, REQUEST, RETENTION_MS, Depot
from tests.sim.checkers import lease_of

Call = Append | Finish | Reinstate | Release | Renew

TERMS = Terms(OWNER, LEASE_MS / 1000, RETENTION_MS)


def renewal(owner: Owner) -> Renew:
    return Renew(PARTITION, OWNER, LEASE_MS, ((REQUEST, owner.epoch, owner.log_id),))


def epoch_of(call: Call) -> int:
    return lease_of(call)[1]


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
    answer, after = depot.call(call)
    return answer[0] if isinstance(call, Renew) else answer, after


def claim_in(run_id: str) -> Claimed:
    """A new request with a window of 8 tokens, claimed in this life of the store."""
    store = StoreState(run_id)
    store.do(Open(NewRequest(REQUEST, "", "", "", "client", 8), queue_limit=1), now_ms=1)
    claimed = store.do(Claim(PARTITION, OWNER, LEASE_MS), now_ms=1)
    assert claimed is not None
    return claimed


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
