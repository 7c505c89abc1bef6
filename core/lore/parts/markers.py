"""The markers of each format."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from lore.parts.formats import Format, ToolFormat

_THINK = {"<think>": "</think>"}
CALL_ID, ARGS = "[CALL_ID]", "[ARGS]"


class Markers(NamedTuple):
    opening: str = ""
    """Begins calls, anywhere in a text; '' for none."""
    closing: str = ""
    first: tuple[str, ...] = ()
    """Begin a call at the beginning of an answer, or after a marker."""
    separator: str = ""
    """Separates two calls."""
    lists: bool = False
    """Whether calls come as a JSON list, or each behind its name."""
    known_names: bool = False
    """Whether no marker identifies a call, so that only the name of a tool does."""
    reasoning: Mapping[str, str] = _THINK
    """The markers that begin the reasoning, each with the one that ends it."""


MARKERS: Mapping[ToolFormat, Markers] = {
    "": Markers(),
    "hermes": Markers("<tool_call>", "</tool_call>"),
    "llama3": Markers(
        "<|python_tag|>", first=("<|python_tag|>", "{"), separator=";", known_names=True
    ),
    "mistral": Markers("[TOOL_CALLS]", lists=True, reasoning={"[THINK]": "[/THINK]", **_THINK}),
}


def names_of(form: Format) -> frozenset[str]:
    """All markers that a model may write. For a tokenizer, some are special tokens, which it leaves
    out of a text; these must be kept.
    """
    markers = MARKERS[form.tools]
    calls = (markers.opening, markers.closing, *markers.first) if form.tools else ()
    more = (CALL_ID, ARGS) if markers.lists else ()
    reasoning = [one for pair in markers.reasoning.items() for one in pair] if form.reasons else []
    return frozenset((*calls, *more, *reasoning)) - {"", "{"}


def left_open(form: Format, prompt: str) -> str:
    """The marker that begins the reasoning, if the prompt ends with it: the template has then begun
    the reasoning for the model, and the answer's text begins inside it.
    """
    end = prompt.rstrip()
    openings = MARKERS[form.tools].reasoning if form.reasons else ()
    return next((one for one in openings if end.endswith(one)), "")


def held(text: str, marker: str) -> int:
    """How many characters at the end of the text may be the beginning of the marker."""
    longest = min(len(text), len(marker) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(marker[:n])), 0)


class NamedCall(NamedTuple):
    name: str
    """'' if there is none."""
    end: int
    """The position where its arguments begin."""


_NAMED = re.compile(r"([\w.-]{1,64})\s*(?:\[CALL_ID\][\w-]{1,64}\s*)?(?:\[ARGS\]\s*)?(?={)")


def named_call(text: str) -> NamedCall | None:
    """The name at the beginning of a text, up to the brace of the arguments; None while more text
    may complete it.
    """
    if match := _NAMED.match(text):
        return NamedCall(match[1], match.end())
    return None if _may_become_named(text) else NamedCall("", 0)


def _may_become_named(text: str) -> bool:
    name = re.match(r"[\w.-]{1,64}", text)
    if name is None:
        return False
    rest = text[name.end() :].lstrip()
    for marker, follows in ((CALL_ID, r"[\w-]{0,64}"), (ARGS, "")):
        if marker.startswith(rest):
            return True
        if rest.startswith(marker):
            after = re.match(follows, rest[len(marker) :])
            rest = rest[len(marker) + (after.end() if after else 0) :].lstrip()
    return not rest
