"""Messages and tools as chat templates take them."""

import hashlib
from collections.abc import Callable, Iterator
from typing import Any, cast

from lore.messages import Message
from lore.parts.json_scan import object_in
from lore.request import StreamRequest

Json = dict[str, Any]

ID_CHARACTERS = 9
"""Some templates, Mistral's, take ids of no other length."""
_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"


def conversation(messages: list[Message]) -> list[Json]:
    names = {call.id: call.name for one in messages for call in one.tool_calls or ()}
    return [_turn(message, names) for message in messages]


def functions(request: StreamRequest) -> list[Json]:
    """None where the answer may call none."""
    if not request.callable_names:
        return []
    return [
        {
            "type": "function",
            "function": {
                "name": tool.name,
                "description": tool.description or "",
                "parameters": tool.parameters or {"type": "object", "properties": {}},
            },
        }
        for tool in request.tools or ()
    ]


def texts(value: Any) -> Iterator[str]:
    """All that is text in a value of JSON, the names of members too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, inner in cast("Json", value).items():
            yield name
            yield from texts(inner)
    elif isinstance(value, list):
        for inner in cast("list[Any]", value):
            yield from texts(inner)


def with_texts(value: Any, change: Callable[[str], str]) -> Any:
    """The same value with other texts."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        given = cast("Json", value)
        return {change(name): with_texts(inner, change) for name, inner in given.items()}
    if isinstance(value, list):
        return [with_texts(inner, change) for inner in cast("list[Any]", value)]
    return value


def _turn(message: Message, names: dict[str, str]) -> Json:
    turn: Json = {"role": message.role, "content": message.content}
    if message.tool_calls:
        turn["tool_calls"] = [
            {
                "id": _id(call.id),
                "type": "function",
                "function": {"name": call.name, "arguments": _arguments(call.arguments)},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        turn["tool_call_id"] = _id(message.tool_call_id)
        turn["name"] = names.get(message.tool_call_id, "")
    return turn


def _arguments(text: str) -> Any:
    """Templates write an object as JSON, and what is none as it is."""
    value = object_in(text or "{}")
    return text if value is None else value


def _id(name: str) -> str:
    number = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest())
    characters: list[str] = []
    for _ in range(ID_CHARACTERS):
        number, place = divmod(number, len(_ALPHABET))
        characters.append(_ALPHABET[place])
    return "".join(characters)
