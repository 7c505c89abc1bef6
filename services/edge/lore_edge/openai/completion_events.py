"""A completion of a raw prompt, as an object and as a stream of chunks."""

from collections.abc import Sequence
from typing import Any

from lore.protocol.sender import Sender
from lore.store.base import ChunkMessage, View
from lore_edge.delivery.dialect import usage
from lore_edge.delivery.feed import Feed
from lore_edge.delivery.ring import EncodedChunk, shown_ids
from lore_edge.openai.errors import OpenAIError, in_openai, not_answered
from lore_edge.openai.logprobs import of_text
from lore_edge.openai.notes import CompletionNote
from lore_edge.wire import sse

PREFIX = "cmpl-"
NAMES = {"messages": "prompt"}
"""The name that the messages of a chat have here."""
_DONE = b"data: [DONE]\n\n"


def failure(view: View) -> OpenAIError | None:
    """The error for an answer that failed or was cancelled, if it was."""
    error = not_answered(view)
    return error and in_openai(error, NAMES)


def completion(
    view: View, note: CompletionNote, text: str, chunks: Sequence[ChunkMessage] = ()
) -> dict[str, Any]:
    """``chunks`` are those of the text, if they have log probabilities or token ids."""
    choice = _choice(text, view.finish_reason) | {"logprobs": of_text(chunks)}
    if chunks:
        token_ids = [one for chunk in chunks for one in chunk.token_ids]
        choice |= shown_ids(token_ids, chunks[0].prompt_ids)
    return (
        _head(view, note)
        | {"choices": [choice], "usage": usage(view)}
        | ({"metadata": note.metadata} if note.metadata else {})
    )


class CompletionStream:
    """The ``Dialect`` of a completion. Its event ids are the native stream's, as in a chat (O5)."""

    repeats_text = False
    returns = False

    def __init__(self, view: View, note: CompletionNote, *, had: int = 0, offset: int = 0) -> None:
        """``had``: the last id that the reader has. ``offset``: of the next chunk in the text."""
        self._view = view
        self._note = note
        self._had = had
        self._offset = offset

    def open(self, feed: Feed, sender: Sender | None) -> bytes:
        del feed, sender
        return b""

    def chunk(self, piece: EncodedChunk) -> bytes:
        choice = _choice(piece.text) | {"logprobs": of_text([piece], self._offset)}
        choice |= shown_ids(piece.token_ids, piece.prompt_ids)
        self._offset += len(piece.text)
        if piece.seq <= self._had:
            return b""
        return sse.data(self._chunk(self._view, choice), piece.event_id)

    def state(self, *_: object) -> bytes:
        return b""

    def end(self, view: View, text: str) -> bytes:
        del text
        if (error := failure(view)) is not None:
            return sse.data({"error": error.content()})
        last = sse.data(self._chunk(view, _choice("", view.finish_reason)))
        if self._note.include_usage:
            spent = {"choices": [], "usage": usage(view)}
            last += sse.data(_head(view, self._note) | spent)
        return last + _DONE

    def error(self, code: str, message: str, position: int) -> bytes:
        del position
        return sse.data({"error": OpenAIError(410, code, message).content()})

    def _chunk(self, view: View, choice: dict[str, Any]) -> dict[str, Any]:
        chunk = _head(view, self._note) | {"choices": [choice]}
        return chunk | {"usage": None} if self._note.include_usage else chunk


def _choice(text: str, finish_reason: str | None = None) -> dict[str, Any]:
    return {"index": 0, "text": text, "logprobs": None, "finish_reason": finish_reason}


def _head(view: View, note: CompletionNote) -> dict[str, Any]:
    return {
        "id": PREFIX + view.request_id,
        "object": "text_completion",
        "created": view.created_ms // 1000,
        "model": note.model,
        "system_fingerprint": None,
    }
