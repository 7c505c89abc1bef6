"""An answer's parts for OpenAI's APIs, derived from the text that the log has."""

from lore.messages import Message, ToolCall
from lore.parts.formats import Format
from lore.parts.parser import Parser
from lore.parts.words import Arguments, CallBegin, CallEnd, Part, Reasoning, Text
from lore.request import StreamRequest


def call_id(request_id: str, call: int) -> str:
    """What a client names to answer a call."""
    return f"call_{request_id}_{call}"


def parser_of(asked: StreamRequest) -> Parser | None:
    """None for an answer that is text alone, without log probabilities."""
    form = asked.form()
    if form == Format() and asked.logprobs is None:
        return None
    return Parser(form, asked.callable_names, single=asked.parallel_tool_calls is False)


class Whole:
    """All parts of an answer, or of what it has said so far."""

    def __init__(self, asked: StreamRequest, request_id: str, text: str) -> None:
        parser = parser_of(asked)
        self.text = self.reasoning = ""
        self.calls: list[ToolCall] = []
        self.has_called = False
        """It ends with calls that wait for their results."""
        if parser is None:
            self.text = text
            return
        for part in (*parser.feed(text), *parser.finish()):
            self._add(part, request_id)
        self.has_called = parser.has_called

    def _add(self, part: Part, request_id: str) -> None:
        match part:
            case Text(text):
                self.text += text
            case Reasoning(text):
                self.reasoning += text
            case CallBegin(call, name):
                self.calls.append(ToolCall(id=call_id(request_id, call), name=name, arguments=""))
            case Arguments(_, text):
                last = self.calls[-1]
                self.calls[-1] = last.model_copy(update={"arguments": last.arguments + text})
            case CallEnd():
                pass

    def message(self) -> Message:
        """As a later request is told of it. Reasoning is not shown to a model again."""
        return Message(role="assistant", content=self.text, tool_calls=self.calls or None)
