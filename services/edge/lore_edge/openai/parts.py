"""An answer's parts for OpenAI's APIs, derived from the text that the log has."""

from collections.abc import Sequence

from lore.messages import Message, ToolCall
from lore.parts.formats import Format
from lore.parts.parser import Parser
from lore.parts.words import Arguments, CallBegin, CallEnd, Part, ReasoningText, Text
from lore.request import StreamRequest
from lore.store.base import ChunkMessage
from lore_edge.delivery.ring import EncodedChunk

Chunk = ChunkMessage | EncodedChunk


class PartsReader:
    """The parts of an answer, chunk by chunk, and how many of its tokens are reasoning: by its log
    alone.

    Tokens without a part, as those of markers, belong to the part that follows. If a chunk brings
    reasoning and another part, its tokens are shared by their characters.
    """

    def __init__(self, parser: Parser) -> None:
        self.reasoning_tokens = 0
        self._parser = parser
        self._seen = self._before = 0
        """The tokens up to the last chunk, and up to the last one with a part."""

    @property
    def has_called(self) -> bool:
        return self._parser.has_called

    def feed(self, chunk: Chunk) -> Sequence[Part]:
        return self._counted(self._parser.feed(chunk.text), chunk.tokens)

    def finish(self) -> Sequence[Part]:
        """What was held back."""
        return self._counted(self._parser.finish(), self._seen)

    def _counted(self, parts: Sequence[Part], tokens: int) -> Sequence[Part]:
        """``tokens``: how many the answer has up to here."""
        self._seen = tokens
        thought = sum(len(part.text) for part in parts if isinstance(part, ReasoningText))
        other = sum(map(_size, parts))
        if thought or other:
            self.reasoning_tokens += round((tokens - self._before) * thought / (thought + other))
            self._before = tokens
        return parts


def _size(part: Part) -> int:
    match part:
        case Text(text) | Arguments(_, text) | CallBegin(_, text):
            return len(text)
        case _:
            return 0


def reasoning_tokens(asked: StreamRequest, chunks: Sequence[Chunk]) -> int | None:
    """Of a whole answer; None for one that is text alone."""
    if (parser := parser_of(asked)) is None:
        return None
    reader = PartsReader(parser)
    for chunk in chunks:
        reader.feed(chunk)
    reader.finish()
    return reader.reasoning_tokens


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
            case ReasoningText(text):
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
