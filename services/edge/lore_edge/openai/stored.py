"""The requests behind OpenAI's ids, each with what it was asked."""

import re
from typing import Generic, NamedTuple

from lore.request import KeptRequest
from lore.store.base import Store, View
from lore_edge.openai.errors import unknown_object
from lore_edge.openai.notes import Note, ResponseNote, kept_with_note
from lore_edge.openai.parameters import MAX_SHOWN
from lore_edge.wire.errors import given_up
from lore_edge.wire.ids import REQUEST_ID


class Stored(NamedTuple, Generic[Note]):
    view: View
    note: Note
    kept: KeptRequest


class Shelf:
    """The stored requests of one subject. Somebody else's, or those of another API, are not found.

    All calls raise OpenAIError 404, ApiError 410 for what cannot be read or was given up, and
    StoreUnavailable.
    """

    def __init__(self, store: Store, subject: str) -> None:
        self._store = store
        self._subject = subject

    async def stored_response(self, name: str) -> Stored[ResponseNote]:
        """A response that may be read. One with ``store: false`` can be cancelled and deleted."""
        found = await self.find(ResponseNote, name)
        if not found.note.store:
            raise unknown_object("Response", name)
        return found

    async def find(self, kind: type[Note], name: str) -> Stored[Note]:
        match = re.fullmatch(f"{kind.prefix}({REQUEST_ID})", name)
        view = await self._store.view(match[1]) if match else None
        if view is not None and view.subject == self._subject:
            if view.given_up_ms:
                raise given_up()
            body = await self._store.body(view.request_id)
            kept, note = kept_with_note(body, kind, view) if body else (None, None)
            if kept is not None and note is not None:
                return Stored(view, note, kept)
        raise unknown_object(kind.title, name[:MAX_SHOWN])
