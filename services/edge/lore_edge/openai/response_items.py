"""The items of a response that may be more than text, with the events that tell of them.

An item begins where a part of its kind begins, and ends where one of another kind does, so that
items and events follow from the log alone.
"""

from collections.abc import Sequence
from typing import Any

from lore.parts.words import Arguments, CallBegin, CallEnd, Part, ReasoningText, Text
from lore.protocol.logprobs import Scored
from lore_edge.openai.logprobs import Pending, of_event, of_part
from lore_edge.openai.parts import call_id

Json = dict[str, Any]
Event = tuple[str, Json]

_CONTENT = {"message": "output_text", "reasoning": "reasoning_text"}
_NAMES = {"message": "msg", "reasoning": "rs", "function_call": "fc"}


class Items:
    def __init__(self, request_id: str) -> None:
        self.done: list[Json] = []
        """Those that have ended."""
        self._request_id = request_id
        self._kind = ""
        """Of the one that has begun."""
        self._text: list[str] = []
        self._call: CallBegin | None = None
        self._scored: list[Scored] = []
        """The tokens of the message that has begun, if they have log probabilities."""
        self._pending = Pending()

    def take(self, parts: Sequence[Part], scored: Sequence[Scored] = ()) -> list[Event]:
        """The parts that a chunk brings, and its tokens with their log probabilities."""
        self._pending.add(scored)
        events: list[Event] = []
        for part in parts:
            match part:
                case Text(text):
                    events += self._say("message", text, self._pending.take(text))
                case ReasoningText(text):
                    events += self._say("reasoning", text)
                case CallBegin():
                    events += self.end("completed")
                    self._call = part
                    events += self._begin("function_call")
                case Arguments(_, text):
                    self._text.append(text)
                    kind = "response.function_call_arguments.delta"
                    events.append((kind, {**self._place, "delta": text}))
                case CallEnd(_, is_complete):
                    events += self.end("completed" if is_complete else "incomplete")
        if parts and not isinstance(parts[-1], Text):
            self._pending.take_all()  # of other items, and markers
        return events

    def begin_message(self) -> list[Event]:
        """Of an answer that has said nothing: it has one all the same."""
        return [] if self.done or self._kind else self._begin("message")

    def say_rest(self) -> list[Event]:
        """Tokens behind the message that have no text, as the one that ends an answer."""
        rest = self._pending.take_all()
        return self._say("message", "", rest) if rest and self._kind == "message" else []

    def end(self, status: str) -> list[Event]:
        if not self._kind:
            return []
        item, text, kind = self._item(status), "".join(self._text), self._kind
        ended = ("response.output_item.done", {"output_index": len(self.done), "item": item})
        if kind == "function_call":
            said = {**self._place, "arguments": text}
            events = [("response.function_call_arguments.done", said), ended]
        else:
            place = self._place | {"content_index": 0}
            more: Json = {"logprobs": of_event(self._scored)} if kind == "message" else {}
            part = _part(kind, text, self._scored)
            events = [
                (f"response.{_CONTENT[kind]}.done", place | {"text": text} | more),
                ("response.content_part.done", place | {"part": part}),
                ended,
            ]
        self.done.append(item)
        self._kind, self._text, self._call, self._scored = "", [], None, []
        return events

    def _say(self, kind: str, text: str, scored: Sequence[Scored] = ()) -> list[Event]:
        events: list[Event] = []
        if self._kind != kind:
            events = [*self.end("completed"), *self._begin(kind)]
        self._text.append(text)
        self._scored += scored
        more: Json = {"logprobs": of_event(scored)} if kind == "message" else {}
        delta = self._place | {"content_index": 0, "delta": text} | more
        return [*events, (f"response.{_CONTENT[kind]}.delta", delta)]

    def _begin(self, kind: str) -> list[Event]:
        self._kind = kind
        added = {"output_index": len(self.done), "item": self._item("in_progress")}
        events: list[Event] = [("response.output_item.added", added)]
        if kind != "function_call":
            place = self._place | {"content_index": 0, "part": _part(kind, "")}
            events.append(("response.content_part.added", place))
        return events

    @property
    def _place(self) -> Json:
        return {"item_id": self._id, "output_index": len(self.done)}

    @property
    def _id(self) -> str:
        name, request_id = _NAMES[self._kind], self._request_id
        if self._call is not None:
            return f"{name}_{request_id}_{self._call.call}"
        earlier = sum(item["type"] == self._kind for item in self.done)
        # ``msg_…_1`` is a message of the input.
        return f"{name}_{request_id}_part{earlier}" if earlier else f"{name}_{request_id}"

    def _item(self, status: str) -> Json:
        text = "".join(self._text)
        item: Json = {"id": self._id, "type": self._kind, "status": status}
        if self._call is not None:
            name = call_id(self._request_id, self._call.call)
            return item | {"call_id": name, "name": self._call.name, "arguments": text}
        content = [] if status == "in_progress" else [_part(self._kind, text, self._scored)]
        if self._kind == "reasoning":
            return item | {"summary": [], "content": content}
        return item | {"role": "assistant", "content": content}


def _part(kind: str, text: str, scored: Sequence[Scored] = ()) -> Json:
    if kind == "reasoning":
        return {"type": "reasoning_text", "text": text}
    return output_text(text, scored)


def output_text(text: str, scored: Sequence[Scored] = ()) -> Json:
    told = of_part(scored)
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": told}
