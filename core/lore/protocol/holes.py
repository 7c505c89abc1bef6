"""Whether an ended answer has lost a chunk for good (P4, P10).

The log of an answer that ended grows no more. When such a log lacks a chunk that its request
counts (a server that came back from a file cut within a transaction), no waiting brings it, and
the reader who needs it is told. The proof takes three looks: the view and the server's life are
the same on both sides of a reading that does not show the chunk. What changed in between proves
nothing.
"""

from collections.abc import Sequence
from typing import NamedTuple

from lore.protocol.lifecycle import ENDED
from lore.protocol.messages import ChunkMessage, View


class Doubt(NamedTuple):
    """The chunk after ``after`` may be lost."""

    after: int
    around: tuple[View, str] | None = None
    """What the view was, and the server's life, before the log was read and did not show it."""

    def read(self, page: Sequence[ChunkMessage], view: View, run_id: str) -> "Doubt | None":
        """The log was read after ``after``, and the view before. None: the chunk is there."""
        return None if in_sequence(page, self.after) else Doubt(self.after, (view, run_id))

    def is_lost(self, view: View, run_id: str) -> bool | None:
        """The view was read. None: nothing is proved, and the log is to be read."""
        if self.around is not None:
            return self.around == (view, run_id)
        return None if counts_after(view, self.after) else False


def counts_after(view: View, after: int) -> bool:
    """Whether the answer has ended and has a chunk after ``after``."""
    return view.status in ENDED and after < view.next_seq - 1


def in_sequence(chunks: Sequence[ChunkMessage], after: int) -> Sequence[ChunkMessage]:
    """Those that follow ``after`` without a gap: nothing behind a hole may go out."""
    whole = 0
    while whole < len(chunks) and chunks[whole].seq == after + whole + 1:
        whole += 1
    return chunks[:whole]
