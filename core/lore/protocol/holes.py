"""Whether an ended answer has lost a chunk for good (P4.10, P10).

The log of an ended answer does not grow. If it lacks a chunk that its request counts, no waiting
brings the chunk, and the reader who needs it is told. (A server that came back from a file that was
cut within a transaction has such a log.) The proof takes three reads: of the view, of the log
without the chunk, and of the view again. View and server life must be the same before and after. If
they changed, nothing is proved.
"""

from collections.abc import Sequence
from typing import NamedTuple

from lore.protocol.lifecycle import ENDED
from lore.protocol.messages import ChunkMessage, View


class SuspectedHole(NamedTuple):
    """A suspicion: the chunk after ``after`` may be lost."""

    after: int
    around: tuple[View, str] | None = None
    """The view and the server's life before the log was read without the chunk."""

    def read(self, page: Sequence[ChunkMessage], view: View, run_id: str) -> "SuspectedHole | None":
        """The log was read after ``after``, and the view before that. None: the chunk is there."""
        return None if in_sequence(page, self.after) else SuspectedHole(self.after, (view, run_id))

    def is_lost(self, view: View, run_id: str) -> bool | None:
        """The view was read. None: nothing is proved, and the log must be read."""
        if self.around is not None:
            return self.around == (view, run_id)
        return None if counts_after(view, self.after) else False


def counts_after(view: View, after: int) -> bool:
    """Whether the answer has ended and has a chunk after ``after``."""
    return view.status in ENDED and after < view.next_seq - 1


def in_sequence(chunks: Sequence[ChunkMessage], after: int) -> Sequence[ChunkMessage]:
    """The chunks that follow ``after`` without a gap: nothing behind a hole may go out. They are in
    order, so the last one tells whether one is missing.
    """
    if chunks and chunks[-1].seq == after + len(chunks):
        return chunks
    whole = 0
    while whole < len(chunks) and chunks[whole].seq == after + whole + 1:
        whole += 1
    return chunks[:whole]
