"""The query parameters of OpenAI's calls."""

import re
from typing import get_args
from urllib.parse import parse_qsl

from lore_edge.openai.errors import refused
from lore_edge.openai.parameters import unknown
from lore_edge.openai.responses_request import Included
from lore_edge.wire.asgi import Scope
from lore_edge.wire.resume import MAX_SEQ

INCLUDE = ("include", "include[]")
"""The two names of a list in a query; the SDKs use the second."""
_NUMBER = re.compile(r"[0-9]{1,15}")


def query_of(scope: Scope, known: set[str]) -> dict[str, str]:
    """The query parameters. Raises ApiError 400 for a name that is not ``known``, and for what is
    not offered.
    """
    text = scope["query_string"].decode("latin-1")
    pairs = parse_qsl(text, keep_blank_values=True)
    query = dict(pairs)
    for name in query.keys() - known:
        raise unknown(name)
    for name, value in pairs:
        if name in INCLUDE and value not in get_args(Included):
            raise refused(
                "unsupported_value", "Unsupported value: Lore's answers have no such part.", name
            )
    return query


def flag(query: dict[str, str], name: str) -> bool:
    """A boolean parameter. Raises ApiError 400."""
    value = query.get(name, "false")
    if value not in ("true", "false"):
        raise refused("invalid_type", f"Invalid type for '{name}': expected a boolean.", name)
    return value == "true"


def asks_for_stream(scope: Scope, query: dict[str, str]) -> bool:
    """Whether the call asks for a stream. HEAD does not: it wants the head of what exists now, and
    a stream would keep it waiting.
    """
    return flag(query, "stream") and scope["method"] != "HEAD"


def starting_after(query: dict[str, str]) -> int | None:
    """The number of the last event that the reader has. Raises ApiError 400."""
    value = query.get("starting_after")
    if value is None:
        return None
    if not _NUMBER.fullmatch(value) or int(value) > MAX_SEQ:
        raise refused(
            "invalid_type",
            "Invalid type for 'starting_after': expected an event's sequence number.",
            "starting_after",
        )
    return int(value)
