"""The parts that a parser returns."""

from typing import NamedTuple


class Text(NamedTuple):
    text: str


class ReasoningText(NamedTuple):
    text: str


class CallBegin(NamedTuple):
    """A call of a tool begins. ``call`` numbers the calls of an answer from 0."""

    call: int
    name: str


class Arguments(NamedTuple):
    """More of a call's arguments, as JSON text."""

    call: int
    text: str


class CallEnd(NamedTuple):
    call: int
    is_complete: bool
    """False for a call that was cut off, or whose arguments are not JSON."""


Part = Text | ReasoningText | CallBegin | Arguments | CallEnd
