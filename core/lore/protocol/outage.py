"""When an edge is without the store for so long that its readers are better off elsewhere.

Readers who came before the silence began are sent away, once. Those who came since, by way of a
request that is followed here, have been sent here by another edge that is without the store as
well: they stay, so that nobody moves twice for an outage that all edges share.
"""

from dataclasses import dataclass

LATE_S = 2.0
"""A timer that rings so late was set by an edge that stood still itself."""


@dataclass(slots=True)
class Outage:
    lost_s: float
    """Without any answer for so long (``LORE_STORE_LOST_S``), the store counts as lost."""
    heard_at: float
    """When the store answered last."""
    missed_at: float | None = None
    """When it was asked for the first time that it has not answered since."""
    is_lost: bool = False

    def on_answer(self, now: float) -> None:
        self.heard_at = now
        self.missed_at = None
        self.is_lost = False

    def on_miss(self, asked_at: float) -> None:
        """What was asked then was not answered."""
        if self.missed_at is None:
            self.missed_at = asked_at

    def deadline(self) -> float | None:
        """When to call ``on_timer``."""
        return None if self.is_lost else self.heard_at + self.lost_s

    def on_timer(self, now: float) -> bool:
        """Whether the store was lost just now. An edge that stood still has not asked, and gives
        the store as long again."""
        due = self.heard_at + self.lost_s
        if self.is_lost or now < due:
            return False
        if now > due + LATE_S:
            self.heard_at, self.missed_at = now, None
            return False
        self.is_lost = True
        return True

    def sends_away(self, opened_at: float) -> bool:
        """Whether a reader who came then goes."""
        return self.is_lost and (self.missed_at is None or opened_at <= self.missed_at)
