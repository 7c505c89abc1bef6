"""Parses server-sent events from bytes, as in the WHATWG HTML standard (section 9.2.6).

Bytes go in as the network cuts them. Each event comes out once its blank line has arrived. An event
that a lost connection left incomplete never comes out.
"""

import codecs
import re
from dataclasses import dataclass

_LINE_END = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True, slots=True)
class ServerEvent:
    event: str
    data: str
    last_event_id: str
    """The newest id of the stream, from this event or an earlier one."""


class SseParser:
    """One connection's parser. ``retry_ms`` is the newest ``retry:`` seen, or None."""

    def __init__(self) -> None:
        self.retry_ms: int | None = None
        self.lines = 0
        self.pending_chars = 0
        """The characters of the incomplete event."""
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._at_start = True
        self._after_cr = False
        self._partial: list[str] = []
        self._event = ""
        self._data: list[str] = []
        self._last_event_id = ""

    def feed(self, data: bytes) -> list[ServerEvent]:
        """Take the next bytes; return the events that they completed."""
        text = self._decoder.decode(data)
        if text and self._at_start:
            self._at_start = False
            text = text.removeprefix("\ufeff")
        if text and self._after_cr:
            # The CR already ended its line; the LF of a divided CRLF is not a second end.
            self._after_cr = False
            text = text.removeprefix("\n")
        if not text:
            return []
        self.pending_chars += len(text)
        self._after_cr = text.endswith("\r")
        first, *rest = _LINE_END.split(text)
        self._partial.append(first)
        events: list[ServerEvent] = []
        for following in rest:
            event = self._line("".join(self._partial))
            if event is not None:
                events.append(event)
            self._partial = [following]
            self.lines += 1
        return events

    def _line(self, line: str) -> ServerEvent | None:
        if not line:
            self.pending_chars = 0
            return self._dispatch()
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match field:
            case "event":
                self._event = value
            case "data":
                self._data.append(value)
            case "id" if "\0" not in value:
                self._last_event_id = value
            case "retry" if value.isascii() and value.isdigit():
                self.retry_ms = int(value)
            case _:  # a comment, or a field that the standard says to ignore
                pass
        return None

    def _dispatch(self) -> ServerEvent | None:
        event, data = self._event or "message", self._data
        self._event, self._data = "", []
        if not data:
            return None
        return ServerEvent(event, "\n".join(data), self._last_event_id)
