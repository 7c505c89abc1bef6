"""The types of a pacer's decisions (``pace.py``)."""

import math
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class PaceConfig:
    tokens_per_s: float = 12.0
    """The most that a reader takes, in tokens a second, where the request does not say."""
    lead_tokens: int = 64
    """How far ahead of such a reader a request may be while others wait."""
    step_tokens: int = 8
    """The size of a grant while others wait."""
    reading_ratio: float = 0.6
    """The share of its pace at which a reader is taken to read. Below it, it runs dry."""
    calm_s: float = 5.0
    """Pace binds until nobody has waited for this long, in seconds, so that it does not flap."""

    def __post_init__(self) -> None:
        if self.lead_tokens < 2 * self.step_tokens:
            raise ValueError("lead_tokens must be at least two steps")


@dataclass(slots=True)
class Changes(Generic[K]):
    """What ``take`` decided: credit to pass on (None: no limit), and who is parked for pace now."""

    grants: list[tuple[K, int | None]] = field(default_factory=list[tuple[K, int | None]])
    parked: list[K] = field(default_factory=list[K])
    resumed: list[K] = field(default_factory=list[K])


@dataclass(slots=True, eq=False)
class Request(Generic[K]):
    """What the pacer knows of a request. Counts are in tokens, times in seconds."""

    key: K
    pace: float | None
    credit: float
    generated: int
    granted: float
    needs_per_s: float
    turn_s: float
    """When it came, or a machine had its last step."""
    read_tokens: int = 0
    """The reader's position at ``read_s``: where its count begins."""
    read_s: float | None = None
    """None before the first token."""
    dry_s: float = math.inf
    """When its reader has no more than a step left."""
    due_s: float = -math.inf
    """From when on another step is within its lead."""
    parked: bool = False

    @property
    def wants(self) -> bool:
        return self.generated < self.credit

    @property
    def holds(self) -> bool:
        """Whether it has a slot also behind the token that is under way."""
        return self.granted - self.generated > 1

    @property
    def is_leaving(self) -> bool:
        """Whether the token that is under way is the last one granted: its slot is free then."""
        return 0 < self.granted - self.generated <= 1

    @property
    def is_closing(self) -> bool:
        """Whether that token is also the last that its window allows."""
        return self.is_leaving and self.granted == self.credit

    def read(self, now: float) -> float:
        """The reader's position, in tokens, at reading speed."""
        read_s = now if self.read_s is None else self.read_s
        return self.read_tokens + self.needs_per_s * (now - read_s)

    def read_no_further_than(self, tokens: int, now: float) -> None:
        """Its reader has waited for text, or was away: set its clock back."""
        if self.read(now) > tokens:
            self.read_tokens, self.read_s = tokens, now
