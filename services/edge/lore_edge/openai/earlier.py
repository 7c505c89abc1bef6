"""Items and responses that an input refers to, looked up in the store (O18).

An answer that has not ended counts for its text so far: a caller who stopped reading it and goes on
has no more of it either.
"""

import re
from collections.abc import Sequence

from lore.messages import Message
from lore.store.base import Store
from lore_edge.delivery import views
from lore_edge.openai.errors import OpenAIError, prompt_too_long
from lore_edge.openai.input_items import items_of
from lore_edge.openai.notes import ResponseNote
from lore_edge.openai.parameters import MAX_SHOWN
from lore_edge.openai.parts import Whole
from lore_edge.openai.responses_request import Reference, ResponseRequest, Thoughts
from lore_edge.openai.stored import Shelf, Stored
from lore_edge.openai.tools import joined
from lore_edge.wire.ids import REQUEST_ID

_ITEM = re.compile(rf"(msg|fc|fci|fco|rs)_({REQUEST_ID})(?:_([0-9]{{1,6}}))?")


class Earlier:
    """Looks up for one caller, and one input."""

    def __init__(self, store: Store, shelf: Shelf, max_messages: int) -> None:
        self._store = store
        self._shelf = shelf
        self._max_messages = max_messages

    async def resolve(self, asked: ResponseRequest) -> tuple[list[Message], list[Message]]:
        """Return the messages before this input, and those of the input.

        Raises OpenAIError 404 for what is gone, and 400 for a prompt over a limit.
        """
        earlier = await self._chain(asked.previous_response_id)
        now: list[Message] = []
        for number, item in enumerate(asked.input):
            if isinstance(item, Reference):
                now += await self._item(item.id, f"input[{number}].id")
            elif not isinstance(item, Thoughts):
                now.append(item.message())
        now = joined(now)
        self._check(len(earlier) + len(now))
        return earlier, now

    async def _chain(self, response_id: str | None) -> list[Message]:
        turns: list[Sequence[Message]] = []
        count = 0
        while response_id is not None:
            stored = await self._get(response_id, "previous_response_id")
            said = _input(stored)[stored.note.earlier :]
            turns.append([*said, await self._answer(stored)])
            count += len(turns[-1])
            self._check(count)
            response_id = stored.note.previous_response_id
        return [message for turn in reversed(turns) for message in turn]

    async def _item(self, item_id: str, param: str) -> Sequence[Message]:
        """Of an answer, or of what it was asked. Reasoning is not shown to a model again."""
        match = _ITEM.fullmatch(item_id)
        if match is None:
            raise _gone("Item", item_id, param)
        kind, request_id, number = match.groups()
        stored = await self._get(ResponseNote.prefix + request_id, param, item_id)
        if kind == "rs":
            return []
        if (kind == "msg" and number is None) or kind == "fc":
            answer = await self._answer(stored)
            if kind == "msg":
                return [Message(role="assistant", content=answer.content)]
            found = [Message(role="assistant", tool_calls=[one]) for one in answer.tool_calls or ()]
        else:
            found = [one for _, one in items_of(_input(stored))]
        if number is None or int(number) >= len(found):
            raise _gone("Item", item_id, param)
        return [found[int(number)]]

    async def _get(self, response_id: str, param: str, item_id: str = "") -> Stored[ResponseNote]:
        try:
            return await self._shelf.stored_response(response_id)
        except OpenAIError as error:
            if error.status != 404:
                raise
        raise _gone("Item", item_id, param) if item_id else _gone("Response", response_id, param)

    async def _answer(self, stored: Stored[ResponseNote]) -> Message:
        _, text = await views.read(self._store, stored.view.request_id, stored.view.subject)
        return Whole(stored.kept, stored.view.request_id, text).message()

    def _check(self, count: int) -> None:
        if count > self._max_messages:
            most = f"with what came before, 'input' may have at most {self._max_messages} messages"
            raise prompt_too_long(most, "input")


def _input(stored: Stored[ResponseNote]) -> Sequence[Message]:
    return (stored.kept.messages or [])[1 if stored.note.instructions else 0 :]


def _gone(kind: str, name: str, param: str) -> OpenAIError:
    message = (
        f"{kind} with id '{name[:MAX_SHOWN]}' not found: it was never stored here, it was "
        "deleted, or it is no longer kept."
    )
    code = "previous_response_not_found" if kind == "Response" else "item_not_found"
    return OpenAIError(404, code, message, field=param)
