"""A chat completion, as an object and as a stream of chunks."""

from typing import Any

from lore.protocol.sender import Sender
from lore.store.base import View
from lore_edge import sse
from lore_edge.dialect import usage
from lore_edge.feed import Feed
from lore_edge.openai.errors import OpenAIError, not_answered
from lore_edge.openai.notes import ChatNote
from lore_edge.ring import Piece

PREFIX = "chatcmpl-"
_HERE = "\0"  # where a chunk's text goes; JSON never contains it unescaped
_DONE = b"data: [DONE]\n\n"


def completion(view: View, note: ChatNote, text: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": text, "refusal": None, "annotations": []}
    choice = {
        "index": 0,
        "message": message,
        "logprobs": None,
        "finish_reason": _finish_reason(view),
    }
    return (
        _head(view, note, "chat.completion")
        | {"choices": [choice], "usage": usage(view)}
        | ({"metadata": note.metadata} if note.metadata else {})
    )


class ChatStream:
    """The ``Dialect`` of a chat. Its event ids are the native stream's, so that a client can resume
    (O5).
    """

    repeats_text = False
    returns = False

    def __init__(self, view: View, note: ChatNote, *, resumed: bool) -> None:
        """``resumed``: the reader has the opening chunk."""
        self._note = note
        self._resumed = resumed
        form = sse.encode_json(self._chunk(view, {"content": _HERE}))
        self._before, self._after = form.split(sse.encode_json(_HERE))

    def open(self, feed: Feed, sender: Sender | None) -> bytes:
        del sender
        if self._resumed:
            return b""
        return sse.data(self._chunk(feed.view, {"role": "assistant", "content": ""}), "0")

    def chunk(self, piece: Piece) -> bytes:
        text = sse.encode_json(piece.text)
        return f"id: {piece.event_id}\ndata: {self._before}{text}{self._after}\n\n".encode()

    def state(self, *_: object) -> bytes:
        return b""

    def end(self, view: View, text: str) -> bytes:
        del text
        if (error := not_answered(view)) is not None:
            return sse.data({"error": error.content()})
        last = sse.data(self._chunk(view, {}, finish_reason=_finish_reason(view)))
        if self._note.include_usage:
            spent = {"choices": [], "usage": usage(view)}
            last += sse.data(_head(view, self._note, "chat.completion.chunk") | spent)
        return last + _DONE

    def error(self, code: str, message: str, position: int) -> bytes:
        del position
        return sse.data({"error": OpenAIError(410, code, message).content()})

    def _chunk(
        self, view: View, delta: dict[str, str], finish_reason: str | None = None
    ) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        chunk = _head(view, self._note, "chat.completion.chunk") | {"choices": [choice]}
        return chunk | {"usage": None} if self._note.include_usage else chunk


def _head(view: View, note: ChatNote, kind: str) -> dict[str, Any]:
    return {
        "id": PREFIX + view.request_id,
        "object": kind,
        "created": view.created_ms // 1000,
        "model": note.model,
        "system_fingerprint": None,
    }


def _finish_reason(view: View) -> str:
    return "length" if view.finish_reason == "length" else "stop"
