"""What may happen at most how often, and the scopes that are explored."""

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class Bounds:
    """One scope. Counts are maxima on every path; ``faults`` bounds their sum."""

    name: str
    tokens: int = 3
    window: int = 2
    joined: bool = True
    """Whether the readers are connected from the start, or connect at any time."""
    slow_reads: bool = False
    """Whether what an edge reads of the store is under way for a while, or there at once."""
    readers: int = 2
    faults: int = 1
    drops: int = 1
    """Messages and calls lost: news, events, acks, calls and their answers."""
    doubles: int = 1
    """News, events and acks that arrive twice."""
    reorders: int = 1
    """News and events that overtake the one before. Acks and late calls always may."""
    lates: int = 1
    """Calls given up while they are still under way, so that they may happen later."""
    crashes: int = 1
    """Generators that die. They are back at once, knowing nothing."""
    lapses: int = 1
    """Leases that lapse, whether their owner lives or not."""
    cancels: int = 1
    reaps: int = 1
    restarts: int = 0
    """Stores that come back, with another run id, as they are or as they were saved."""
    saves: int = 0
    """Times at which the store is saved; what a restart brings back is the latest."""
    resets: int = 0
    """Subscriptions lost."""
    cuts: int = 1
    """Connections between an edge and its reader that break."""
    timers: int = 1
    """Timers that go off before they have to: renewals, retransmissions, reconnections."""
    reduced: bool = True
    """Leave out orders of steps that lead to the same state (see ``space.py``)."""

    @staticmethod
    def kinds() -> tuple[str, ...]:
        """What is counted."""
        return COUNTED

    def describe(self) -> str:
        """What differs from the defaults, in words."""
        chosen = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "name"}
        default = {f.name: f.default for f in fields(self)}
        words = ", ".join(f"{k}={v}" for k, v in chosen.items() if v != default[k])
        return f"{self.name}: {words}"


COUNTED = (
    "drops",
    "doubles",
    "reorders",
    "lates",
    "crashes",
    "lapses",
    "cancels",
    "reaps",
    "restarts",
    "saves",
    "resets",
    "cuts",
    "timers",
)
FREE = frozenset({"saves"})
"""Counted, but no faults."""


SHORT = (
    Bounds("one reader, one fault", readers=1, reorders=0, reaps=0, lapses=0),
    Bounds("two readers, no faults", faults=0),
)
SCOPES = SHORT
