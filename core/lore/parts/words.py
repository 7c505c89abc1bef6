"""What a parser says of an answer."""

from typing import NamedTuple


class Text(NamedTuple):
    text: str


class Reasoning(NamedTuple):
    text: str


class CallBegin(NamedTuple):
    """The model calls a tool. ``call`` counts the calls of an answer from 0."""

    call: int
    name: str


class Arguments(NamedTuple):
    """More of a call's arguments, which are JSON."""

    call: int
    text: str


class CallEnd(NamedTuple):
    call: int
    is_complete: bool
    """False for one that was cut, or that is no JSON."""


Part = Text | Reasoning | CallBegin | Arguments | CallEnd
