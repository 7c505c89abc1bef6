"""One request as this edge hears it, shared by all its readers here (protocol P10, P12).

A feed looks at the request once more when its subscription is in place, so its readers miss
nothing. Its head starts at the log's end: live chunks move it on, and stay in a bounded ring,
encoded once for everyone. What is older than the ring a reader takes from the log, in pages, at
its own pace.
"""

from collections.abc import Iterator

from lore.metrics import REQUESTS_REVIVED
from lore.store.base import Outcome
from lore_edge.hearing import PAGE_CHUNKS, Hearing
from lore_edge.history import in_sequence, is_foreign
from lore_edge.ring import Piece


class Feed(Hearing):
    """What a reader asks of it."""

    def piece(self, seq: int) -> Piece | None:
        """The chunk from the ring, or None when it has to come from the log."""
        return self._ring.get(seq)

    def tokens_at(self, seq: int) -> int | None:
        """How many the answer has up to a chunk; None when that is not known here."""
        if seq == self.view.next_seq - 1:
            return self.view.generated_tokens
        if seq == 0:
            return 0
        piece = self.piece(seq)
        return piece.tokens if piece else None

    def pieces_after(self, seq: int) -> Iterator[Piece]:
        return self._ring.after(seq)

    async def page(self, after: int, limit: int = PAGE_CHUNKS) -> list[Piece]:
        """Chunks after ``after`` from the log: none when there are none, or it is another log,
        or the next one is in ``holes``."""
        chunks = await self._store.read(self.request_id, after=after, limit=limit, known=self.view)
        if any(is_foreign(chunk, self.view) for chunk in chunks):
            await self.look()
            return []
        whole = in_sequence(chunks, after)
        if not whole:
            await self._find_hole(after)
        return [self._encode(chunk) for chunk in whole]

    async def text(self) -> str | None:
        """The whole answer so far; None when the log did not hold still.

        Raises StoreUnavailable.
        """
        parts: list[str] = []
        log_id, last_seq = self.log_id, self.view.next_seq - 1
        while len(parts) < last_seq:
            page = await self.page(len(parts), min(PAGE_CHUNKS, last_seq - len(parts)))
            if not page:
                return None
            parts += [piece.text for piece in page]
        return "".join(parts) if self.log_id == log_id else None

    async def revive(self) -> None:
        """Raises StoreUnavailable. Somebody else may have done it before."""
        position = await self._store.revive(self.request_id)
        REQUESTS_REVIVED.inc(position.outcome is Outcome.OK)
        await self.look()

    def on_resumed(self, seq: int) -> None:
        """A reader that comes back after ``seq`` has everything up to it (P9)."""
        if min(seq, self.head) > self.view.acked_seq:
            self.on_acked(min(seq, self.head))
            self.look_soon()
