"""One call as it arrives: ``{"name": "f", "arguments": {…}}``, or ``{…}`` behind its name."""

import json
from collections.abc import Callable
from typing import Any, Literal

from lore.parts.json_scan import Found, Value, object_in

_ARGUMENTS = ("arguments", "parameters")
_SPACE = " \t\n\r"
_Wanted = Literal["open", "key", "colon", "value", "comma"]

Names = Callable[[str], bool]


class CallObject:
    """A call that is being read. ``name`` is set once it is known. ``take`` returns the arguments
    that have arrived since the last call of it; nothing before the name is known.
    """

    def __init__(self, is_name: Names) -> None:
        """``is_name``: whether a tool may have this name."""
        self.name: str | None = None
        self._is_name = is_name
        self._wanted: _Wanted = "open"
        self._is_first = True
        self._key = Value()
        self._value = Value()
        self._arguments: list[str] | None = None
        """None until the arguments have begun."""
        self._taken = 0

    @property
    def has_object(self) -> bool:
        """Whether the arguments so far are a JSON object."""
        return object_in("".join(self._arguments or ())) is not None

    def take(self) -> str:
        if self.name is None or self._arguments is None:
            return ""
        new, self._taken = self._arguments[self._taken :], len(self._arguments)
        return "".join(new)

    def feed(self, text: str, start: int) -> tuple[int, Found]:
        """Read from ``start`` on. Returns where and why it has stopped. ``bad`` means that this is
        no call, or no JSON any more. It also stops where the name becomes known.
        """
        place, is_named = start, self.name is not None
        while place < len(text):
            character = text[place]
            if self._wanted in ("key", "value") and (self._current.raw or character not in _SPACE):
                if self._wanted == "key" and not self._current.raw and character != '"':
                    return self._end_early(place, character)
                place, found = self._read(text, place)
                if found == "bad" or (self.name is not None and not is_named):
                    return place, found
                continue
            if character in _SPACE:
                place += 1
                continue
            done = self._punctuation(character)
            if done == "bad":
                return place, "bad"
            place += 1
            if done == "done":
                return place, self._ended()
        return place, "more"

    @property
    def _current(self) -> Value:
        return self._key if self._wanted == "key" else self._value

    def _end_early(self, place: int, character: str) -> tuple[int, Found]:
        """Handle an object without members."""
        if character == "}" and self._is_first:
            return place + 1, self._ended()
        return place, "bad"

    def _punctuation(self, character: str) -> Found:
        match self._wanted, character:
            case "open", "{":
                self._wanted = "key"
            case "colon", ":":
                self._wanted = "value"
            case "comma", ",":
                self._wanted, self._is_first = "key", False
                self._key, self._value = Value(), Value()
            case "comma", "}":
                return "done"
            case _:
                return "bad"
        return "more"

    def _read(self, text: str, place: int) -> tuple[int, Found]:
        current, before = self._current, len(self._current.raw)
        place, found = current.feed(text, place)
        if self._wanted == "value" and self._is_arguments and current.is_container:
            self._arguments = self._arguments or []
            self._arguments += current.raw[before:]
        return place, self._have() if found == "done" else found

    @property
    def _is_arguments(self) -> bool:
        return _decoded(self._key.text) in _ARGUMENTS

    def _have(self) -> Found:
        """Take a finished key or value."""
        if self._wanted == "key":
            self._wanted = "colon"
            is_again = self._is_arguments and self._arguments is not None
            return "bad" if is_again or not isinstance(_decoded(self._key.text), str) else "more"
        self._wanted = "comma"
        value = _decoded(self._value.text)
        if _decoded(self._key.text) == "name":
            if self.name is not None or not isinstance(value, str) or not self._is_name(value):
                return "bad"
            self.name = value
        elif self._is_arguments and not self._value.is_container:
            # Some models write their JSON as a string. Half a surrogate pair, which no UTF-8 has,
            # is escaped in it again.
            said = value if isinstance(value, str) else self._value.text
            said = said.encode(errors="backslashreplace").decode()
            self._arguments = ["{}" if said == "null" else said]
        return "more"

    def _ended(self) -> Found:
        if self.name is None:
            return "bad"
        if self._arguments is None:
            self._arguments = ["{}"]
        return "done"


class CallArguments:
    """The arguments alone; behaves like a ``CallObject`` whose name is known."""

    def __init__(self, name: str) -> None:
        self.name: str | None = name
        self._value = Value()
        self._taken = 0

    @property
    def has_object(self) -> bool:
        return object_in(self._value.text) is not None

    def take(self) -> str:
        new, self._taken = self._value.raw[self._taken :], len(self._value.raw)
        return "".join(new)

    def feed(self, text: str, start: int) -> tuple[int, Found]:
        return self._value.feed(text, start)


def _decoded(raw: str) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        return None
