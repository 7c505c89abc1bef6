"""What the APIs that answer with choices have in common: chats, and completions of raw prompts."""

from typing import Any

from lore.store.base import View
from lore_edge.openai.errors import OpenAIError, in_openai, not_answered
from lore_edge.openai.notes import ChoiceNote
from lore_edge.wire import sse

Json = dict[str, Any]
_DONE = b"data: [DONE]\n\n"


def failure(view: View, note: ChoiceNote) -> OpenAIError | None:
    """The error for an answer that failed or was cancelled, if it was."""
    error = not_answered(view)
    return error and in_openai(error, note.names)


def head(view: View, note: ChoiceNote, kind: str) -> Json:
    return {
        "id": note.prefix + view.request_id,
        "object": kind,
        "created": view.created_ms // 1000,
        "model": note.model,
        "system_fingerprint": None,
    }


def completion(view: View, note: ChoiceNote, kind: str, choice: Json, usage: Json) -> Json:
    """A whole answer."""
    whole = head(view, note, kind) | {"choices": [choice], "usage": usage}
    return whole | ({"metadata": note.metadata} if note.metadata else {})


class ChoiceStream:
    """The ``Dialect`` of these streams, but for their choices. Their event ids are the native
    stream's, so that a client can resume (O5).
    """

    repeats_text = False
    returns = False
    kind: str
    """Of each chunk, as its ``object`` says."""

    def __init__(self, view: View, note: ChoiceNote) -> None:
        self._view = view
        self._note = note

    def state(self, *_: object) -> bytes:
        return b""

    def error(self, code: str, message: str, _position: int) -> bytes:
        return sse.data({"error": OpenAIError(410, code, message).content()})

    def _chunk(self, view: View, choice: Json) -> Json:
        chunk = head(view, self._note, self.kind) | {"choices": [choice]}
        return chunk | {"usage": None} if self._note.include_usage else chunk

    def _last(self, view: View, choice: Json, usage: Json) -> bytes:
        """The end of the stream, of which ``choice`` is the last."""
        if (error := failure(view, self._note)) is not None:
            return sse.data({"error": error.content()})
        last = sse.data(self._chunk(view, choice))
        if self._note.include_usage:
            spent = {"choices": [], "usage": usage}
            last += sse.data(head(view, self._note, self.kind) | spent)
        return last + _DONE
