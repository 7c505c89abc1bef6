"""What a generator asks of the store, as tuples: pure code decides them, a shell carries them out.

Times are in milliseconds, as everywhere in the store. A shell answers each command with what
the store said, or with the word that no answer came: it may have happened then.
"""

from collections.abc import Sequence
from typing import NamedTuple

from lore.protocol.chunk import Chunk
from lore.protocol.lifecycle import Status
from lore.protocol.messages import View


class Append(NamedTuple):
    """Append chunks and renew the lease (P2, P5, P15). Answer: a Position."""

    request_id: str
    owner: str
    epoch: int
    log_id: str
    window: int
    reopen_tokens: int
    lease_ms: int
    chunks: tuple[Chunk, ...]


class Finish(NamedTuple):
    """End a request as done or failed (P13). Answer: a Position."""

    request_id: str
    owner: str
    epoch: int
    next_seq: int
    status: Status
    finish_reason: str
    error: str
    prompt_tokens: int
    retention_ms: int
    log_id: str


class Reinstate(NamedTuple):
    """Give a request back to a store that has forgotten it (P3). Answer: a Position."""

    view: View
    body: str
    chunks: Sequence[Chunk]
    lease_ms: int


class Release(NamedTuple):
    """Hand a request back to the queue (P15). Answer: a Position."""

    request_id: str
    owner: str
    epoch: int
    failed: bool = False


class Renew(NamedTuple):
    """Renew leases of one partition (P15). Answer: a Position for each, in order."""

    partition: int
    owner: str
    lease_ms: int
    leases: tuple[tuple[str, int, str], ...]
    """request_id, epoch and log_id of each."""


class Claim(NamedTuple):
    """Take a partition's next request (P15). Answer: a Claimed, or None when there is none."""

    partition: int
    owner: str
    lease_ms: int
    untried: bool


class Waiting(NamedTuple):
    """Ask what waits (P17), and have leases shortened that would last longer from now on (P15).
    Answer: (place_ms, partition) of each partition in which some does."""

    lease_ms: int


class ReadLog(NamedTuple):
    """Read a whole log with token ids, for a takeover. Answer: its chunks."""

    request_id: str


class Guard(NamedTuple):
    """Subscribe to what the store tells the owner of a request. Answer: None once it is there."""

    request_id: str
    epoch: int


class Unguard(NamedTuple):
    """End that, unless another epoch's has taken its place. Nobody waits for an answer."""

    request_id: str
    epoch: int
