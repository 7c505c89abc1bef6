"""The parts of a chat completion: its message, and the deltas of its chunks."""

from collections.abc import Sequence
from typing import Any

from lore.parts.parser import Parser
from lore.parts.words import Arguments, CallBegin, Part, ReasoningText, Text
from lore_edge.openai.parts import Chunk, PartsReader, Whole, call_id

Json = dict[str, Any]


def message(whole: Whole) -> Json:
    said: Json = {"role": "assistant", "content": whole.text, "refusal": None, "annotations": []}
    if whole.reasoning:
        said["reasoning_content"] = whole.reasoning
    if whole.calls:
        said["content"] = whole.text or None
        said["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in whole.calls
        ]
    return said


def delta(parts: Sequence[Part], request_id: str) -> Json:
    """What a chunk adds; {} for nothing. Each part of it is said once."""
    said: Json = {}
    calls: dict[int, Json] = {}
    for part in parts:
        match part:
            case Text(text):
                said["content"] = said.get("content", "") + text
            case ReasoningText(text):
                said["reasoning_content"] = said.get("reasoning_content", "") + text
            case CallBegin(call, name):
                named = {"name": name, "arguments": ""}
                own = {"id": call_id(request_id, call), "type": "function", "function": named}
                calls[call] = {"index": call, **own}
            case Arguments(call, text):
                one = calls.setdefault(call, {"index": call, "function": {"arguments": ""}})
                one["function"]["arguments"] += text
            case _:
                pass
    return said | ({"tool_calls": list(calls.values())} if calls else {})


def finish_reason(reason: str, has_called: bool) -> str:
    """A call that was cut is none that waits for its result."""
    if reason == "length":
        return "length"
    return "tool_calls" if has_called else "stop"


class Deltas:
    """Of one answer, chunk by chunk."""

    def __init__(self, parser: Parser, request_id: str, before: Sequence[Chunk]) -> None:
        """``before``: the chunks that the reader has."""
        self.reader = PartsReader(parser)
        self._request_id = request_id
        for chunk in before:
            self.feed(chunk)

    def feed(self, chunk: Chunk) -> Json:
        return delta(self.reader.feed(chunk), self._request_id)

    def finish(self) -> Json:
        """What was held back."""
        return delta(self.reader.finish(), self._request_id)
