"""The input items of a response."""

from typing import Any

from lore.request import KeptRequest
from lore.store.base import View
from lore_edge.openai.errors import refused
from lore_edge.openai.notes import ResponseNote

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
    messages = kept.messages or []
    return [
        {
            "id": f"msg_{view.request_id}_{number}",
            "type": "message",
            "role": message.role,
            "status": "completed",
            "content": [_part(message.role, message.content)],
        }
        for number, message in enumerate(messages[1 if note.instructions else 0 :])
    ]


def _part(role: str, text: str) -> dict[str, Any]:
    if role == "assistant":
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {"type": "input_text", "text": text}


def _limit(query: dict[str, str]) -> int:
    value = query.get("limit", str(DEFAULT_LIMIT))
    if not value.isascii() or not value.isdecimal() or not 1 <= int(value[:9]) <= MAX_LIMIT:
        raise refused(
            "invalid_value", f"Invalid 'limit': expected an integer from 1 to {MAX_LIMIT}.", "limit"
        )
    return int(value)
