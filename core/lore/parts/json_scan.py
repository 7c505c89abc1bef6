"""Finds where JSON ends, as it arrives (RFC 8259).

Only strings and brackets are followed. What stands between them is the model's business; the reader
of the arguments validates it.
"""

from typing import Literal

_CLOSING = {"{": "}", "[": "]"}
_SPACE = " \t\n\r"
_SCALAR_ENDS = ",}]" + _SPACE

Found = Literal["more", "done", "bad"]


class Value:
    """One JSON value. ``raw`` is the text read so far."""

    def __init__(self) -> None:
        self.raw: list[str] = []
        self._open: list[str] = []
        self._in_string = False
        self._is_escaped = False
        self._is_scalar = False

    @property
    def text(self) -> str:
        return "".join(self.raw)

    @property
    def is_container(self) -> bool:
        return bool(self.raw) and self.raw[0][0] in _CLOSING

    def feed(self, text: str, start: int) -> tuple[int, Found]:
        """Read from ``start`` on. Returns where and why it has stopped."""
        for place in range(start, len(text)):
            character = text[place]
            if self._is_scalar and character in _SCALAR_ENDS:
                self._take(text, start, place)
                return place, "done"
            found = self._step(character)
            if found == "bad":
                self._take(text, start, place)
                return place, "bad"
            if found == "done":
                self._take(text, start, place + 1)
                return place + 1, "done"
        self._take(text, start, len(text))
        return len(text), "more"

    def _take(self, text: str, start: int, end: int) -> None:
        if end > start:
            self.raw.append(text[start:end])

    def _step(self, character: str) -> Found:
        if self._in_string:
            return self._step_in_string(character)
        if character in "}]":
            if not self._open or self._open.pop() != character:
                return "bad"
            return "more" if self._open else "done"
        if self._is_scalar and character in '"{[':
            return "bad"
        if character == '"':
            self._in_string = True
        elif character in _CLOSING:
            self._open.append(_CLOSING[character])
        elif not self._open:
            self._is_scalar = True
            return "bad" if character in ",:<" or character in _SPACE else "more"
        return "bad" if character == "<" else "more"

    def _step_in_string(self, character: str) -> Found:
        if self._is_escaped:
            self._is_escaped = False
        elif character == "\\":
            self._is_escaped = True
        elif character == '"':
            self._in_string = False
            return "more" if self._open else "done"
        return "more"
