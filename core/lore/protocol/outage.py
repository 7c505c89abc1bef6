"""When an edge has been without the store for so long that it sends its readers elsewhere (E11).

Readers who came before the store fell silent are sent away, once. Readers who came later stay:
another edge that has lost the store, too, may have sent them. So nobody moves twice for an outage
that all edges share (E13).
"""

from dataclasses import dataclass

LATE_S = 2.0
"""A timer that fires this many seconds late shows that the edge itself stood still."""


@dataclass(slots=True)
class Outage:
    lost_s: float
    """The time without any answer after which the store counts as lost (``LORE_STORE_LOST_S``)."""
    heard_at: float
    """When the store last answered."""
    missed_at: float | None = None
    """When the first call since then was made that got no answer."""
    is_lost: bool = False

    def on_answer(self, asked_at: float, now: float) -> None:
        """A call that was made at ``asked_at`` was answered. That says nothing of a later call."""
        if self.missed_at is not None and asked_at < self.missed_at:
            return
        self.heard_at = now
        self.missed_at = None
        self.is_lost = False

    def on_miss(self, asked_at: float) -> None:
        """A call that was made at ``asked_at`` got no answer."""
        if self.missed_at is None:
            self.missed_at = asked_at

    def deadline(self) -> float | None:
        """When to call ``on_timer``."""
        return None if self.is_lost else self.heard_at + self.lost_s

    def on_timer(self, now: float) -> bool:
        """Whether the store was lost just now. An edge that stood still has asked nothing
        meanwhile, so it gives the store the same time again.
        """
        due = self.heard_at + self.lost_s
        if self.is_lost or now < due:
            return False
        if now > due + LATE_S:
            self.heard_at, self.missed_at = now, None
            return False
        self.is_lost = True
        return True

    def sends_away(self, opened_at: float) -> bool:
        """Whether a reader who came at ``opened_at`` is sent away."""
        return self.is_lost and (self.missed_at is None or opened_at <= self.missed_at)
