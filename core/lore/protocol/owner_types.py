"""The types of an owner's decisions (``owner.py``): terms of its leases, states and turns."""

from dataclasses import dataclass, field
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms that all leases of one generator share."""

    owner: str
    """The generator's name; it must be unique in the fleet."""
    lease_s: float
    retention_ms: int
    lease_ms: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "lease_ms", round(self.lease_s * 1000))


class OwnerState(StrEnum):
    WORKING = "working"
    LEAVING = "leaving"  # everything produced is appended, then it is handed back
    RELEASING = "releasing"  # the release is under way: nothing more is appended
    ENDED = "ended"
    GONE = "gone"


class Errand(StrEnum):
    """What must be asked before any other append."""

    GIVE_BACK = "give_back"
    FINISH = "finish"


class Update(StrEnum):
    """What an event changed for a request, for code that keeps counts."""

    ENDED = "ended"
    ALIVE_AGAIN = "alive_again"  # it had ended, and the store forgot that
    GIVEN_BACK = "given_back"  # a store that had forgotten it has it again
    HANDED_BACK = "handed_back"
    LET_GO = "let_go"  # it has ended, and nobody can need its chunks any more
    TAKEN = "taken"  # the store says that it is not ours, or not as we know it
    SUSPECTED = "suspected"  # it may be lost: the store must be asked
