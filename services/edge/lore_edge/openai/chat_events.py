"""A chat completion, as an object and as a stream of chunks."""

from collections.abc import Sequence
from typing import Any

from lore.protocol.logprobs import Scored
from lore.protocol.sender import Sender
from lore.request import KeptRequest
from lore.store.base import ChunkMessage, View
from lore_edge.delivery.dialect import usage
from lore_edge.delivery.feed import Feed
from lore_edge.delivery.ring import EncodedChunk
from lore_edge.openai import choices
from lore_edge.openai.chat_parts import Deltas, finish_reason, message
from lore_edge.openai.logprobs import of_choice
from lore_edge.openai.notes import ChatNote
from lore_edge.openai.parts import Whole, reasoning_tokens
from lore_edge.wire import sse

_HERE = "\0"  # where a chunk's text goes; JSON never contains it unescaped


def completion(
    view: View, note: ChatNote, kept: KeptRequest, text: str, chunks: Sequence[ChunkMessage] = ()
) -> dict[str, Any]:
    """``chunks`` are those of the text, if they have log probabilities or reasoning."""
    scored = [one for chunk in chunks for one in chunk.scored]
    whole = Whole(kept, view.request_id, text)
    choice = {
        "index": 0,
        "message": message(whole),
        "logprobs": of_choice(scored),
        "finish_reason": finish_reason(view.finish_reason, whole.has_called),
    }
    usage = _usage(view, reasoning_tokens(kept, chunks))
    return choices.completion(view, note, "chat.completion", choice, usage)


class ChatStream(choices.ChoiceStream):
    """The ``Dialect`` of a chat."""

    kind = "chat.completion.chunk"

    def __init__(
        self, view: View, note: ChatNote, *, had: int | None = None, deltas: Deltas | None = None
    ) -> None:
        """``had``: the last id that the reader has. ``deltas``: of an answer that may be more than
        text."""
        super().__init__(view, note)
        self._deltas = deltas
        self._had = had
        form = sse.encode_json(self._chunk(view, _choice({"content": _HERE})))
        self._before, self._after = form.split(sse.encode_json(_HERE))

    def open(self, feed: Feed, _sender: Sender | None) -> bytes:
        if self._had is not None:
            return b""
        choice = _choice({"role": "assistant", "content": ""})
        return sse.data(self._chunk(feed.view, choice), "0")

    def chunk(self, piece: EncodedChunk) -> bytes:
        if self._deltas is not None:
            delta = self._deltas.feed(piece)
            if piece.seq <= (self._had or 0) or not (delta or piece.scored):
                return b""
            return sse.data(self._chunk(self._view, _choice(delta, piece.scored)), piece.event_id)
        text = sse.encode_json(piece.text)
        return f"id: {piece.event_id}\ndata: {self._before}{text}{self._after}\n\n".encode()

    def end(self, view: View, _text: str) -> bytes:
        # What was held back has no id of its own: in a chunk before this one, a reader who was cut
        # between the two would get it twice.
        rest = self._deltas.finish() if self._deltas else {}
        has_called = bool(self._deltas and self._deltas.reader.has_called)
        reason = finish_reason(view.finish_reason, has_called)
        reasoning = self._deltas.reader.reasoning_tokens if self._deltas else None
        return self._last(view, _choice(rest, finish_reason=reason), _usage(view, reasoning))


def _choice(
    delta: dict[str, Any], scored: Sequence[Scored] = (), finish_reason: str | None = None
) -> dict[str, Any]:
    said = {"delta": delta, "logprobs": of_choice(scored), "finish_reason": finish_reason}
    return {"index": 0} | said


def _usage(view: View, reasoning: int | None) -> dict[str, Any]:
    """``reasoning``: the tokens of it; None for an answer that is text alone."""
    details = {} if reasoning is None else {"reasoning_tokens": reasoning}
    return usage(view) | ({"completion_tokens_details": details} if details else {})
