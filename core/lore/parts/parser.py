"""From the text of an answer to its parts, as it arrives.

``Parser`` is fed the chunks' texts in order. Its state follows from the text alone, not from where
it was cut: a parser that is fed the text up to some position continues as the first one did.

The possible beginning of a marker is held back until it is clear. White space beside a marker
belongs to the marker. What looked like a call but is none becomes text again, with its marker,
unless a part of the call was returned already.
"""

import re
from collections.abc import Callable, Mapping

from lore.parts.call_object import CallArguments, CallObject
from lore.parts.formats import Format
from lore.parts.markers import MARKERS, held, named_call
from lore.parts.words import Arguments, CallBegin, CallEnd, Part, ReasoningText, Text

_NAME = re.compile("[a-zA-Z0-9_-]{1,64}")


class Parser:
    """Parses one answer. Adjacent parts of one kind are one part, wherever the text was cut."""

    def __init__(
        self, form: Format, names: frozenset[str] = frozenset(), *, single: bool = False
    ) -> None:
        """``names``: the tools that may be called; without any, no text is a call. ``single``: the
        answer ends with its first call.
        """
        self.calls = 0
        """The number of calls that have begun."""
        self.complete_calls = 0
        self._markers = MARKERS[form.tools if names else ""]
        thinks: Mapping[str, str] = MARKERS[form.tools].reasoning if form.reasons else {}
        self._reasoning_markers = thinks
        self._names = names
        self._single = single
        self._step: Callable[[], bool] = self._start
        self._buffer = ""
        self._raw = ""
        """The text of a call of which no part was returned yet, before the buffer."""
        self._closing = ""
        """The marker that ends the reasoning."""
        self._has_reasoned = False
        self._is_list = False
        self._has_begun = False
        """Whether the call's beginning was returned."""
        self._call: CallObject | CallArguments | None = None
        self._parts: list[Part] = []

    @property
    def has_called(self) -> bool:
        """Whether there are calls, and all of them are complete."""
        return 0 < self.calls == self.complete_calls

    def feed(self, text: str) -> list[Part]:
        self._buffer += text
        while self._buffer and self._step():
            pass
        return self._take()

    def finish(self) -> list[Part]:
        """The answer has ended: return the last parts."""
        if self._step == self._reasoning:
            self._say(ReasoningText, self._buffer if self._has_reasoned else "")
        elif self._has_begun:
            self._end_call(is_complete=False)
        elif self._step not in (self._next, self._over) and not self._is_list:
            self._say(Text, self._raw + self._buffer)
        self._buffer, self._raw, self._step = "", "", self._over
        return self._take()

    def _take(self) -> list[Part]:
        parts, self._parts = self._parts, []
        return parts

    def _say(self, kind: type[Text | ReasoningText], text: str) -> None:
        if text:
            self._parts.append(kind(text))

    # Each step takes some of the buffer, and returns whether another may follow. ``_start``: only
    # white space has arrived. ``_after``: a marker has, and white space behind it is dropped.
    # ``_list``: a call follows. ``_next``: a call has ended. ``_over``: nothing more counts.

    def _start(self) -> bool:
        rest = self._buffer.lstrip()
        for opening, closing in self._reasoning_markers.items():
            if rest.startswith(opening):
                self._buffer, self._closing = rest[len(opening) :], closing
                self._step = self._reasoning
                return True
        if self._begins_call(rest):
            return True
        if _may_become((*self._reasoning_markers, *self._markers.first), rest):
            return False
        self._step = self._text
        return True

    def _after(self) -> bool:
        self._buffer = rest = self._buffer.lstrip()
        if not rest or _may_become(self._markers.first, rest):
            return self._begins_call(rest)
        if not self._begins_call(rest):
            self._step = self._text
        return True

    def _begins_call(self, rest: str) -> bool:
        """Whether a marker begins a call here that only counts at this place."""
        for opening in self._markers.first:
            if rest.startswith(opening):
                end = len(self._buffer) - len(rest) + (0 if opening == "{" else len(opening))
                self._raw, self._buffer = self._buffer[:end], self._buffer[end:]
                self._step = self._list
                return True
        return False

    def _text(self) -> bool:
        opening = self._markers.opening
        if opening and opening in self._buffer:
            before, _, self._buffer = self._buffer.partition(opening)
            said = before.rstrip()
            self._say(Text, said)
            self._raw, self._step = before[len(said) :] + opening, self._list
            return True
        self._let_out(Text, opening)
        return False

    def _reasoning(self) -> bool:
        if not self._has_reasoned:
            self._buffer = self._buffer.lstrip()
        before, found, after = self._buffer.partition(self._closing)
        if found:
            self._say(ReasoningText, before.rstrip())
            self._buffer, self._step = after, self._after
            return True
        self._let_out(ReasoningText, self._closing)
        return False

    def _let_out(self, kind: type[Text | ReasoningText], marker: str) -> None:
        """Return the buffer as parts, except for what may belong to the marker."""
        end = len(self._buffer) - held(self._buffer, marker)
        if marker:
            end = len(self._buffer[:end].rstrip())
        self._say(kind, self._buffer[:end])
        self._has_reasoned |= kind is ReasoningText and end > 0
        self._buffer = self._buffer[end:]

    # calls

    def _list(self) -> bool:
        rest = self._buffer.lstrip()
        if not rest:
            return False
        self._raw += self._buffer[: len(self._buffer) - len(rest)]
        self._buffer = rest
        is_new_list = self._markers.lists and not self._is_list
        if rest[0] == "[" and is_new_list:
            self._raw, self._buffer, self._is_list = self._raw + "[", rest[1:], True
        elif rest[0] == "{":
            self._call, self._step = CallObject(self._may_be_called), self._in_call
        elif is_new_list:
            self._step = self._name
        else:
            self._give_up()
        return True

    def _may_be_called(self, name: str) -> bool:
        if self._markers.known_names:
            return name in self._names
        return _NAME.fullmatch(name) is not None

    def _name(self) -> bool:
        """Read ``f{…}``, or a name with more in front of the brace."""
        found = named_call(self._buffer)
        if found is None:
            return False
        if not self._may_be_called(found.name):
            self._give_up()
            return True
        self._call, self._step = CallArguments(found.name), self._in_call
        self._buffer = self._buffer[found.end :]
        self._begin_call(found.name)
        return True

    def _in_call(self) -> bool:
        call = self._call
        assert call is not None
        end, found = call.feed(self._buffer, 0)
        if call.name is None:
            self._raw += self._buffer[:end]
        elif not self._has_begun:
            self._begin_call(call.name)
        self._buffer = self._buffer[end:]
        if call.name is None and found != "more":
            self._give_up()
            return True
        if text := call.take():
            self._parts.append(Arguments(self.calls - 1, text))
        if found != "more":
            self._end_call(is_complete=found == "done" and call.has_object)
        return True

    def _begin_call(self, name: str) -> None:
        self._raw, self._has_begun = "", True
        self._parts.append(CallBegin(self.calls, name))
        self.calls += 1

    def _end_call(self, *, is_complete: bool) -> None:
        self._parts.append(CallEnd(self.calls - 1, is_complete))
        self.complete_calls += is_complete
        self._call, self._has_begun = None, False
        self._step = self._over if self._single else self._next

    def _give_up(self) -> None:
        """This is no call: make it text again."""
        self._say(Text, self._raw)
        self._raw, self._call, self._is_list, self._step = "", None, False, self._text

    def _next(self) -> bool:
        """Read what may follow a call: another call, or the closing marker."""
        self._buffer = rest = self._buffer.lstrip()
        separator, closing = self._markers.separator, self._markers.closing
        if self._is_list:
            separator, closing = ",", "]"
        if not rest or _may_become((closing,), rest):
            return False
        if separator and rest.startswith(separator):
            self._raw, self._step = separator, self._list
            self._buffer = rest[len(separator) :]
            return True
        if closing and rest.startswith(closing):
            self._buffer = rest[len(closing) :]
        self._is_list, self._step = False, self._after
        return True

    def _over(self) -> bool:
        self._buffer = ""
        return False


def _may_become(markers: tuple[str, ...], text: str) -> bool:
    """Whether the text is a beginning of one of the markers, and not yet a whole one."""
    return any(one != text and one.startswith(text) for one in markers)
