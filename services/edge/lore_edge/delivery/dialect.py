"""The bytes of a stream: Lore's own format, and the interface of the other formats."""

from operator import attrgetter
from typing import Any, Protocol

from lore.protocol.lifecycle import Status
from lore.protocol.sender import Sender
from lore.store.base import View
from lore_edge.delivery.feed import Feed
from lore_edge.delivery.ring import EncodedChunk
from lore_edge.wire import sse


class Dialect(Protocol):
    """The format of one reader's stream. A method returns ``b""`` for what the format does not
    express.
    """

    repeats_text: bool
    """Whether ``end`` contains the whole text, which is then read from the log."""
    returns: bool
    """Whether its readers come back by themselves when told to, and revive on demand. Other readers
    take a response that ends for an answer that has ended.
    """

    def open(self, feed: Feed, sender: Sender | None, /) -> bytes: ...

    def chunk(self, piece: EncodedChunk, /) -> bytes: ...

    def state(self, feed: Feed, sender: Sender | None, status: Status, reason: str, /) -> bytes: ...

    def end(self, view: View, text: str, /) -> bytes: ...

    def error(self, code: str, message: str, position: int, /) -> bytes:
        """The last event for a reader that has ``position`` chunks."""
        ...


class Native:
    """Lore's own format (PROTOCOL.md, Server-sent events). A chunk is encoded once for all its
    readers.
    """

    repeats_text = False
    returns = True
    chunk = staticmethod(attrgetter("data"))

    def __init__(self, edge_id: str, silence_s: float) -> None:
        self._edge_id = edge_id
        self._silence_ms = round(silence_s * 1000)

    def open(self, feed: Feed, sender: Sender | None) -> bytes:
        return sse.retry(sse.RETRY_MS) + self.state(feed, sender, feed.view.status, "open")

    def state(self, feed: Feed, sender: Sender | None, status: Status, reason: str) -> bytes:
        return sse.event("state", self.describe(feed, sender, status, reason))

    def describe(
        self, feed: Feed, sender: Sender | None, status: Status, reason: str
    ) -> dict[str, Any]:
        """The data of a state event."""
        view = feed.view
        return {
            "status": status,
            "reason": reason,
            "log_id": view.log_id,
            "edge": self._edge_id,
            "window": view.window,
            "acked_seq": feed.acked_seq,
            "generated_tokens": view.generated_tokens,
            "rto_ms": round(sender.round_trip.rto_s * 1000) if sender else None,
            "retransmits": sender.retransmits if sender else 0,
            "silence_ms": self._silence_ms,
        }

    def end(self, view: View, text: str) -> bytes:
        del text
        return sse.event("end", ending(view))

    def error(self, code: str, message: str, position: int) -> bytes:
        del position
        error: dict[str, Any] = {"error": {"code": code, "message": message}}
        return sse.event("error", error)


class Plain:
    """Only the text; the poll puts the rest around it (protocol P18)."""

    repeats_text = False
    returns = True

    def __init__(self) -> None:
        self.reason = "open"
        """The reason of the last change of state."""

    def open(self, feed: Feed, sender: Sender | None) -> bytes:
        del feed, sender
        return b""

    def chunk(self, piece: EncodedChunk) -> bytes:
        return piece.text.encode()

    def state(self, feed: Feed, sender: Sender | None, status: Status, reason: str) -> bytes:
        del feed, sender, status
        self.reason = reason
        return b""

    def end(self, view: View, text: str) -> bytes:
        del view, text
        return b""

    def error(self, code: str, message: str, position: int) -> bytes:
        del code, message, position
        return b""


def ending(view: View) -> dict[str, Any]:
    """The data of an end event."""
    return {
        "status": view.status,
        "finish_reason": view.finish_reason or None,
        "error": view.error or None,
        "last_seq": view.next_seq - 1,
        "usage": usage(view),
    }


def usage(view: View) -> dict[str, int]:
    return {
        "prompt_tokens": view.prompt_tokens,
        "completion_tokens": view.generated_tokens,
        "total_tokens": view.prompt_tokens + view.generated_tokens,
    }
