"""A completion of a raw prompt, as an object and as a stream of chunks."""

from collections.abc import Sequence
from typing import Any

from lore.protocol.sender import Sender
from lore.store.base import ChunkMessage, View
from lore_edge.delivery.dialect import usage
from lore_edge.delivery.feed import Feed
from lore_edge.delivery.ring import EncodedChunk, shown_ids
from lore_edge.openai import choices
from lore_edge.openai.logprobs import of_text
from lore_edge.openai.notes import CompletionNote
from lore_edge.wire import sse

KIND = "text_completion"


def completion(
    view: View, note: CompletionNote, text: str, chunks: Sequence[ChunkMessage] = ()
) -> dict[str, Any]:
    """``chunks`` are those of the text, if they have log probabilities or token ids."""
    choice = _choice(text, view.finish_reason) | {"logprobs": of_text(chunks)}
    if chunks:
        token_ids = [one for chunk in chunks for one in chunk.token_ids]
        choice |= shown_ids(token_ids, chunks[0].prompt_ids)
    return choices.completion(view, note, KIND, choice, usage(view))


class CompletionStream(choices.ChoiceStream):
    """The ``Dialect`` of a completion."""

    kind = KIND

    def __init__(self, view: View, note: CompletionNote, *, had: int = 0, offset: int = 0) -> None:
        """``had``: the last id that the reader has. ``offset``: of the next chunk in the text."""
        super().__init__(view, note)
        self._had = had
        self._offset = offset

    def open(self, _feed: Feed, _sender: Sender | None) -> bytes:
        return b""

    def chunk(self, piece: EncodedChunk) -> bytes:
        choice = _choice(piece.text) | {"logprobs": of_text([piece], self._offset)}
        choice |= shown_ids(piece.token_ids, piece.prompt_ids)
        self._offset += len(piece.text)
        if piece.seq <= self._had:
            return b""
        return sse.data(self._chunk(self._view, choice), piece.event_id)

    def end(self, view: View, _text: str) -> bytes:
        return self._last(view, _choice("", view.finish_reason), usage(view))


def _choice(text: str, finish_reason: str | None = None) -> dict[str, Any]:
    return {"index": 0, "text": text, "logprobs": None, "finish_reason": finish_reason}
