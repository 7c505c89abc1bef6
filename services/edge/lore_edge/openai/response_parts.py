"""A response whose answer may be more than text, or has log probabilities, as a stream of events.

Their numbers are counted through the log: an edge that a reader comes back to counts from the
beginning, chunk by chunk, and so comes to the same ones. Each log counts on from a number of its
own (``numbers``).
"""

from collections.abc import Sequence

from lore.parts.parser import Parser
from lore.protocol.sender import Sender
from lore.request import KeptRequest
from lore.store.base import ChunkMessage, View
from lore_edge.delivery.feed import Feed
from lore_edge.delivery.ring import EncodedChunk
from lore_edge.openai.notes import ResponseNote
from lore_edge.openai.numbers import NumberedLog, base, log_of
from lore_edge.openai.parts import Chunk, PartsReader
from lore_edge.openai.response_events import (
    NumberedStream,
    close,
    last_event,
    opening,
    response_with,
)
from lore_edge.openai.response_items import Event, Items
from lore_edge.wire.errors import HISTORY_LOST, HISTORY_LOST_CODE


class ResponsePartsStream(NumberedStream):
    """The ``Dialect`` of such a response."""

    repeats_text = False

    def __init__(
        self,
        view: View,
        note: ResponseNote,
        kept: KeptRequest,
        parser: Parser,
        starting_after: int | None,
    ) -> None:
        super().__init__(note, kept, starting_after)
        self._reader = PartsReader(parser)
        self._view = view
        self._base = 0
        """Of the log in which the last chunk was written."""
        self._items = Items(view.request_id)
        self._rest = b""
        """Events of a chunk that the reader has only a part of."""
        self._has_lost = False
        """Whether its last event is none of this log."""
        self._count(opening(view, note, kept))

    def is_behind(self) -> bool:
        """Whether the reader has events that are not counted yet."""
        return self._number <= self._after

    @property
    def log(self) -> NumberedLog:
        """The log that the reader has its last event from."""
        return log_of(self._view, max(0, self._after))

    def skip(self, chunk: ChunkMessage) -> None:
        """A chunk that the reader has, or has begun to get."""
        self._go_over(chunk.seq)
        self._rest = self._count(self._read(chunk))

    def open(self, feed: Feed, _sender: Sender | None) -> bytes:
        self._feed = feed
        events = opening(feed.view, self._note, self._kept)
        return self._events(0, events) + self._rest

    def chunk(self, piece: EncodedChunk) -> bytes:
        self._view = self._feed.view
        self._go_over(piece.seq)
        return self._count(self._read(piece))

    def end(self, view: View, _text: str) -> bytes:
        self._view = view
        self._go_over(view.next_seq)
        events = close(self._items, self._reader.finish(), view, self._note)
        output, reasoning = self._items.done, self._reader.reasoning_tokens
        whole = response_with(view, self._note, self._kept, output, reasoning)
        said = self._count([*events, last_event(whole)])
        if self._has_lost or self.is_behind():  # the reader's last event is none of this log
            return self.error(HISTORY_LOST_CODE, HISTORY_LOST, 0)
        return said

    def _go_over(self, seq: int) -> None:
        """Count on from where the log of this chunk does."""
        before, self._base = self._base, base(self._view, seq)
        was_behind = self.is_behind()
        self._number += self._base - before
        self._has_lost |= was_behind and not self.is_behind()

    def _read(self, chunk: Chunk) -> list[Event]:
        return self._items.take(self._reader.feed(chunk), chunk.scored)

    def _count(self, events: Sequence[Event]) -> bytes:
        first, self._number = self._number, self._number + len(events)
        return self._events(first, events)

    def _events(self, first: int, events: Sequence[Event]) -> bytes:
        return b"" if self._has_lost else super()._events(first, events)
