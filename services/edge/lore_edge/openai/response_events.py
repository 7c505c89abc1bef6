"""A response, as an object and as a stream of events.

Every event's number follows from the log alone, so that any edge counts alike (O6): 0 to 3 open the
response, chunk ``seq`` is ``seq + 3``, and four events end it. A log that is not the request's
first counts on from a number of its own (``numbers``).
"""

from collections.abc import Sequence
from typing import Any

from lore.parts.words import Part, Text
from lore.protocol.lifecycle import ENDED, REFUSALS, Status
from lore.protocol.sender import Sender
from lore.request import KeptRequest
from lore.store.base import ChunkMessage, View
from lore_edge.delivery.feed import Feed
from lore_edge.delivery.ring import EncodedChunk
from lore_edge.openai import answer_format
from lore_edge.openai.notes import ResponseNote
from lore_edge.openai.numbers import base, log_of
from lore_edge.openai.parts import PartsReader, parser_of
from lore_edge.openai.response_items import Event, Items
from lore_edge.openai.tools import described
from lore_edge.wire import sse

OPENING = 4  # events before the first chunk
ENDING = 4  # events after the last
_BEFORE_CHUNKS = OPENING - 1

Json = dict[str, Any]


def chunks_had(starting_after: int | None, view: View) -> tuple[int, str | None]:
    """How many chunks a reader has whose last event has this number, and of which log. It may have
    a part of the ending. A larger number belongs to no event of this log.
    """
    if starting_after is None:
        return 0, None
    log = log_of(view, starting_after)
    had = max(0, starting_after - log.base - _BEFORE_CHUNKS)
    last_seq = view.next_seq - 1
    if view.status in ENDED and last_seq < had <= last_seq + ENDING:
        return last_seq, log.name
    return had, log.name


def response(
    view: View,
    note: ResponseNote,
    kept: KeptRequest,
    text: str = "",
    chunks: Sequence[ChunkMessage] = (),
) -> Json:
    """The response object. ``text`` is the whole answer, if it has ended; ``chunks`` are those of
    the text, if they have log probabilities or reasoning.
    """
    items, reasoning = Items(view.request_id), 0
    rest: Sequence[Part] = [Text(text)] if text else []
    if (parser := parser_of(kept)) is not None:
        reader = PartsReader(parser)
        for chunk in chunks:
            items.take(reader.feed(chunk), chunk.scored)
        if not chunks:
            items.take(parser.feed(text))
        rest, reasoning = reader.finish(), reader.reasoning_tokens
    close(items, rest, view, note)
    return response_with(view, note, kept, items.done, reasoning)


def close(items: Items, rest: Sequence[Part], view: View, note: ResponseNote) -> list[Event]:
    """What is left to say of the items of an answer that has ended; ``rest``: what the parser held
    back.
    """
    completed = _status(view, note) == "completed"
    events = items.take(rest)
    if completed:
        events += items.begin_message()
    events += items.say_rest()
    return events + items.end("completed" if completed else "incomplete")


def response_with(
    view: View, note: ResponseNote, kept: KeptRequest, output: list[Json], reasoning: int
) -> Json:
    """Of an answer that has ended: ``output``, its items, and ``reasoning``, its tokens of that."""
    ended = view.status in ENDED
    status = _status(view, note)
    return _common(view, note, kept) | {
        "status": status,
        "completed_at": view.finished_ms // 1000 if status == "completed" else None,
        "error": _error(view),
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "output": output if ended else [],
        "usage": _usage(view, reasoning) if ended else None,
    }


class NumberedStream:
    """What the streams of all responses have in common: events with numbers."""

    returns = False

    def __init__(self, note: ResponseNote, kept: KeptRequest, starting_after: int | None) -> None:
        self._note = note
        self._kept = kept
        self._after = -1 if starting_after is None else starting_after
        self._number = 0
        """Of the next event."""

    def state(self, *_: object) -> bytes:
        return b""

    def error(self, code: str, message: str, _position: int) -> bytes:
        number = max(self._after + 1, self._number)
        what = {"code": code, "message": message, "param": None, "sequence_number": number}
        return sse.event("error", {"type": "error"} | what)

    def _events(self, first: int, events: Sequence[Event]) -> bytes:
        """Encode those events that the reader does not have yet."""
        return b"".join(
            sse.event(kind, {"type": kind} | data | {"sequence_number": number})
            for number, (kind, data) in enumerate(events, first)
            if number > self._after
        )


class ResponseStream(NumberedStream):
    """The ``Dialect`` of a response."""

    repeats_text = True

    def __init__(
        self, view: View, note: ResponseNote, kept: KeptRequest, starting_after: int | None
    ) -> None:
        super().__init__(note, kept, starting_after)
        place = {"item_id": f"msg_{view.request_id}", "output_index": 0, "content_index": 0}
        fixed = sse.encode_json(place | {"logprobs": []})
        kind = "response.output_text.delta"
        self._chunk_head = f'event: {kind}\ndata: {{"type": "{kind}", {fixed[1:-1]}, '

    def open(self, feed: Feed, _sender: Sender | None) -> bytes:
        self._feed, view = feed, feed.view
        begun = Items(view.request_id).begin_message()
        events = [*opening(view, self._note, self._kept), *begun]
        self._number = len(events)
        return self._events(0, events)

    def chunk(self, piece: EncodedChunk) -> bytes:
        seq, text = piece.seq, sse.encode_json(piece.text)
        number = base(self._feed.view, seq) + seq + _BEFORE_CHUNKS
        self._number = number + 1
        return f'{self._chunk_head}"sequence_number": {number}, "delta": {text}}}\n\n'.encode()

    def end(self, view: View, text: str) -> bytes:
        whole, items = response(view, self._note, self._kept, text), Items(view.request_id)
        items.begin_message()
        items.take([Text(text)] if text else [])
        ended = items.end("completed" if whole["status"] == "completed" else "incomplete")
        events = [*ended, last_event(whole)]
        return self._events(base(view, view.next_seq) + view.next_seq + _BEFORE_CHUNKS, events)


def last_event(whole: Json) -> Event:
    """A cancelled response has none of its own: it is incomplete, and its status says why (O6)."""
    status = whole["status"] if whole["status"] != "cancelled" else "incomplete"
    return f"response.{status}", {"response": whole}


def opening(view: View, note: ResponseNote, kept: KeptRequest) -> list[Event]:
    """What every stream begins with."""
    new = _common(view, note, kept) | {
        "status": "queued" if note.background else "in_progress",
        "completed_at": None,
        "error": None,
        "incomplete_details": None,
        "output": [],
        "usage": None,
    }
    return [
        ("response.created", {"response": new}),
        ("response.in_progress", {"response": new | {"status": "in_progress"}}),
    ]


def _common(view: View, note: ResponseNote, kept: KeptRequest) -> Json:
    """The members that stay the same from the first event to the last."""
    return {
        "id": note.prefix + view.request_id,
        "object": "response",
        "created_at": view.created_ms // 1000,
        **note.model_dump(exclude={"api", "earlier", "reasoning_effort"}),
        "max_tool_calls": None,
        "reasoning": {"effort": note.reasoning_effort, "summary": None},
        "service_tier": "default",
        "top_logprobs": kept.logprobs or 0,
        "truncation": "disabled",
        **described(kept),
        **answer_format.described(kept),
    }


def _status(view: View, note: ResponseNote) -> str:
    match view.status:
        case Status.DONE:
            return "incomplete" if view.finish_reason == "length" else "completed"
        case Status.FAILED | Status.CANCELLED:
            return str(view.status)
        case Status.QUEUED if note.background:
            return "queued"
        case _:
            return "in_progress"


def _error(view: View) -> dict[str, str] | None:
    if view.status is not Status.FAILED:
        return None
    code = view.finish_reason if view.finish_reason in REFUSALS else "server_error"
    return {"code": code, "message": view.error or "the answer failed"}


def _usage(view: View, reasoning: int) -> dict[str, Any]:
    spent = view.prompt_tokens + view.generated_tokens
    return {
        "input_tokens": view.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": view.generated_tokens,
        "output_tokens_details": {"reasoning_tokens": reasoning},
        "total_tokens": spent,
    }
