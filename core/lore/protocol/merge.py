"""Joining history and live chunks without a race (protocol P10, P12).

An edge looks at the log again once it has subscribed, so every chunk arrives from the log, live, or
both. Live messages are hints: they may arrive twice, or not at all. A seq that jumps is a gap, and
nothing later goes out until the log has filled it.
"""

from enum import Enum


class Arrival(Enum):
    NEXT = "next"  # in order: pass it on
    KNOWN = "known"  # seen before: drop it
    GAP = "gap"  # something before it is missing: read the log first


class Merge:
    """The order of one request's chunks on one edge. ``head`` is the last seq in order."""

    __slots__ = ("head", "missing")

    def __init__(self, head: int = 0) -> None:
        self.head = head
        self.missing = False
        """The log has, or may have, chunks that did not arrive live."""

    def on_live(self, seq: int) -> Arrival:
        self.missing |= seq > self.head + 1
        return self.on_log(seq)

    def on_log(self, seq: int) -> Arrival:
        """A chunk was read from the log. A gap here is a hole in the log itself: a broken store."""
        if seq <= self.head:
            return Arrival.KNOWN
        if seq > self.head + 1:
            return Arrival.GAP
        self.head = seq
        return Arrival.NEXT

    def start_read(self) -> int:
        """A read of the log begins. Returns the seq after which to read.

        Live chunks that go missing from now on set ``missing`` again, and the shell reads until it
        stays clear: a live chunk dropped as a gap may be newer than the read that fills the gap.
        """
        self.missing = False
        return self.head

    def on_reset(self) -> None:
        """Live news may have been missed: the subscription was away, or a read failed."""
        self.missing = True
