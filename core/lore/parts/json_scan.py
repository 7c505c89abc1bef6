"""Finds where JSON ends, as it arrives (RFC 8259).

``Value`` follows only strings and brackets. ``object_in`` validates the rest, once all is there.
"""

import json
from typing import Any, Literal, cast

from lore.strict_json import MAX_DEPTH, no_constant

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
            if self._is_scalar and text[place] in _SCALAR_ENDS:
                return self._take(text, start, place), "done"
            found = self._step(text[place])
            if found != "more":
                return self._take(text, start, place + (found == "done")), found
        return self._take(text, start, len(text)), "more"

    def _take(self, text: str, start: int, end: int) -> int:
        if end > start:
            self.raw.append(text[start:end])
        return end

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
            if len(self._open) > MAX_DEPTH:
                return "bad"
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


def object_in(text: str) -> dict[str, Any] | None:
    """The JSON object that a text is (RFC 8259, without ``NaN`` and ``Infinity``); None if it is
    none, or is deeper than ``MAX_DEPTH``.
    """
    text = text.strip(_SPACE)
    if Value().feed(text, 0) != (len(text), "done"):
        return None
    try:
        value: Any = json.loads(text, parse_constant=no_constant)
    except ValueError:
        return None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None
