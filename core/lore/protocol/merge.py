"""Joining history and live without a race (protocol P10, P12).

An edge looks at the log again once it has subscribed, so every chunk comes by one way or the
other, and often by both. Live messages are hints: they may come twice, or not at all. A
seq that jumps is a gap, and nothing later goes out until the log has filled it.
"""

from enum import Enum


class Arrival(Enum):
    NEXT = "next"  # in order: pass it on
    KNOWN = "known"  # seen before: drop it
    GAP = "gap"  # something before it is missing: read the log first


class Merge:
    """The one order of one request's chunks on one edge. ``head`` is the last seq in order."""

    __slots__ = ("head", "missing")

    def __init__(self, head: int = 0) -> None:
        self.head = head
        self.missing = False
        """The log holds, or may hold, chunks that did not come live."""

    def on_live(self, seq: int) -> Arrival:
        if seq <= self.head:
            return Arrival.KNOWN
        if seq > self.head + 1:
            self.missing = True
            return Arrival.GAP
        self.head = seq
        return Arrival.NEXT

    def on_log(self, seq: int) -> Arrival:
        """A chunk read from the log. A gap here is a hole in the log itself: a broken store."""
        if seq <= self.head:
            return Arrival.KNOWN
        if seq > self.head + 1:
            return Arrival.GAP
        self.head = seq
        return Arrival.NEXT

    def start_read(self) -> int:
        """A read of the log begins; returns the seq to read after.

        Whatever goes missing from now on sets ``missing`` again, so the shell reads until it
        stays clear: a live chunk dropped as a gap may be newer than the read that fills it.
        """
        self.missing = False
        return self.head

    def on_reset(self) -> None:
        """Live news may have been missed: the subscription was away, or a read failed."""
        self.missing = True
