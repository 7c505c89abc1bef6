"""The input items of a response."""

from collections.abc import Sequence
from typing import Any

from lore.messages import Message
from lore.request import KeptRequest
from lore.store.base import View
from lore_edge.openai.errors import refused
from lore_edge.openai.notes import ResponseNote
from lore_edge.openai.response_items import output_text

MAX_LIMIT = 100
DEFAULT_LIMIT = 20


def input_items(
    view: View, note: ResponseNote, kept: KeptRequest, query: dict[str, str]
) -> dict[str, Any]:
    """One page of the items. Raises OpenAIError 400."""
    items = _items(view, note, kept)
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise refused(
            "invalid_value", "Invalid value for 'order'. Supported values are: asc, desc.", "order"
        )
    if order == "desc":
        items.reverse()
    if (after := query.get("after")) is not None:
        ids = [item["id"] for item in items]
        if after not in ids:
            raise refused("invalid_value", "Invalid value for 'after': no such item.", "after")
        items = items[ids.index(after) + 1 :]
    page = items[: _limit(query)]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else "",
        "last_id": page[-1]["id"] if page else "",
        "has_more": len(page) < len(items),
    }


def _items(view: View, note: ResponseNote, kept: KeptRequest) -> list[dict[str, Any]]:
    messages = (kept.messages or [])[1 if note.instructions else 0 :]
    return [
        _item(kind, f"{kind}_{view.request_id}_{number}", message)
        for number, (kind, message) in enumerate(items_of(messages))
    ]


def items_of(messages: Sequence[Message]) -> list[tuple[str, Message]]:
    """The items of an input, each with how its id begins: of calls, each is an item of its own."""
    items: list[tuple[str, Message]] = []
    for message in messages:
        calls = message.tool_calls or ()
        if message.role == "tool":
            items.append(("fco", message))
        elif message.content or not calls:
            items.append(("msg", message.model_copy(update={"tool_calls": None})))
        items += [("fci", Message(role="assistant", tool_calls=[call])) for call in calls]
    return items


def _item(kind: str, item_id: str, message: Message) -> dict[str, Any]:
    if kind == "fco":
        call = {"type": "function_call_output", "call_id": message.tool_call_id}
        return {"id": item_id, "status": "completed", "output": message.content} | call
    if kind == "fci" and message.tool_calls:
        (call,) = message.tool_calls
        named = {"call_id": call.id, "name": call.name, "arguments": call.arguments}
        return {"id": item_id, "type": "function_call", "status": "completed"} | named
    return {
        "id": item_id,
        "type": "message",
        "role": message.role,
        "status": "completed",
        "content": [_part(message.role, message.content)],
    }


def _part(role: str, text: str) -> dict[str, Any]:
    if role == "assistant":
        return output_text(text)
    return {"type": "input_text", "text": text}


def _limit(query: dict[str, str]) -> int:
    value = query.get("limit", str(DEFAULT_LIMIT))
    if not value.isascii() or not value.isdecimal() or not 1 <= int(value[:9]) <= MAX_LIMIT:
        raise refused(
            "invalid_value", f"Invalid 'limit': expected an integer from 1 to {MAX_LIMIT}.", "limit"
        )
    return int(value)
