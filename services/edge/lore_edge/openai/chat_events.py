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
from lore_edge.openai.chat_parts import Deltas, finish_reason, message
from lore_edge.openai.errors import OpenAIError, not_answered
from lore_edge.openai.logprobs import of_choice
from lore_edge.openai.notes import ChatNote
from lore_edge.openai.parts import Whole, reasoning_tokens
from lore_edge.wire import sse

PREFIX = "chatcmpl-"
_HERE = "\0"  # where a chunk's text goes; JSON never contains it unescaped
_DONE = b"data: [DONE]\n\n"


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
    return (
        _head(view, note, "chat.completion")
        | {"choices": [choice], "usage": _usage(view, reasoning_tokens(kept, chunks))}
        | ({"metadata": note.metadata} if note.metadata else {})
    )


class ChatStream:
    """The ``Dialect`` of a chat. Its event ids are the native stream's, so that a client can resume
    (O5).
    """

    repeats_text = False
    returns = False

    def __init__(
        self, view: View, note: ChatNote, *, had: int | None = None, deltas: Deltas | None = None
    ) -> None:
        """``had``: the last id that the reader has. ``deltas``: of an answer that may be more than
        text."""
        self._note = note
        self._view = view
        self._deltas = deltas
        self._had = had
        form = sse.encode_json(self._chunk(view, {"content": _HERE}))
        self._before, self._after = form.split(sse.encode_json(_HERE))

    def open(self, feed: Feed, sender: Sender | None) -> bytes:
        del sender
        if self._had is not None:
            return b""
        return sse.data(self._chunk(feed.view, {"role": "assistant", "content": ""}), "0")

    def chunk(self, piece: EncodedChunk) -> bytes:
        if self._deltas is not None:
            delta = self._deltas.feed(piece)
            if piece.seq <= (self._had or 0) or not (delta or piece.scored):
                return b""
            return sse.data(self._chunk(self._view, delta, piece.scored), piece.event_id)
        text = sse.encode_json(piece.text)
        return f"id: {piece.event_id}\ndata: {self._before}{text}{self._after}\n\n".encode()

    def state(self, *_: object) -> bytes:
        return b""

    def end(self, view: View, text: str) -> bytes:
        del text
        if (error := not_answered(view)) is not None:
            return sse.data({"error": error.content()})
        # What was held back has no id of its own: in a chunk before this one, a reader who was cut
        # between the two would get it twice.
        rest = self._deltas.finish() if self._deltas else {}
        has_called = bool(self._deltas and self._deltas.has_called)
        reason = finish_reason(view.finish_reason, has_called)
        last = sse.data(self._chunk(view, rest, finish_reason=reason))
        if self._note.include_usage:
            reasoning = self._deltas.reasoning_tokens if self._deltas else None
            spent = {"choices": [], "usage": _usage(view, reasoning)}
            last += sse.data(_head(view, self._note, "chat.completion.chunk") | spent)
        return last + _DONE

    def error(self, code: str, message: str, position: int) -> bytes:
        del position
        return sse.data({"error": OpenAIError(410, code, message).content()})

    def _chunk(
        self,
        view: View,
        delta: dict[str, Any],
        scored: Sequence[Scored] = (),
        finish_reason: str | None = None,
    ) -> dict[str, Any]:
        said = {"delta": delta, "logprobs": of_choice(scored), "finish_reason": finish_reason}
        choice = {"index": 0} | said
        chunk = _head(view, self._note, "chat.completion.chunk") | {"choices": [choice]}
        return chunk | {"usage": None} if self._note.include_usage else chunk


def _usage(view: View, reasoning: int | None) -> dict[str, Any]:
    """``reasoning``: the tokens of it; None for an answer that is text alone."""
    details = {} if reasoning is None else {"reasoning_tokens": reasoning}
    return usage(view) | ({"completion_tokens_details": details} if details else {})


def _head(view: View, note: ChatNote, kind: str) -> dict[str, Any]:
    return {
        "id": PREFIX + view.request_id,
        "object": kind,
        "created": view.created_ms // 1000,
        "model": note.model,
        "system_fingerprint": None,
    }
