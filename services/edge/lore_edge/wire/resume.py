"""The position of a reader: ``Last-Event-ID``, ``?after=`` and ``?log=`` (protocol P4, P12)."""

import re
from typing import NamedTuple
from urllib.parse import parse_qs

from lore.protocol.poll import MAX_WAIT_S
from lore_edge.wire import sse
from lore_edge.wire.asgi import Scope, header, wants_stream
from lore_edge.wire.errors import invalid

MAX_SEQ = 2**53 - 1  # the largest integer that JSON and Lua represent exactly
LOG_ID = r"[A-Za-z0-9_-]{1,64}"
POSITION = rf"([0-9]{{1,15}})(?::({LOG_ID}))?"
_LOG = re.compile(LOG_ID)
_POSITION = re.compile(POSITION)
_HEARTBEAT = re.compile(rb"(?:^|&)heartbeat=([^&]*)")
WAIT = r"(?:30(?:\.0{1,3})?|[12]?[0-9](?:\.[0-9]{1,3})?)"
"""Seconds, up to MAX_WAIT_S."""
_WAIT = re.compile(rf"(?:^|&)wait=(?:({WAIT})(?=&|$))?".encode())


class ResumePoint(NamedTuple):
    position: int | None
    """The last seq that the reader has; None when it did not say."""
    log_id: str | None
    """The log of that seq, if the reader named it."""
    said: str
    """How it named its position (``lore.metrics.RESUMES``)."""
    begin: int | None = None
    """The last seq that its format has counted through; None: ``position``. It is less while the
    log has not all that the reader has.
    """


def wanted(scope: Scope) -> ResumePoint:
    """The position in a call. Raises ApiError 400, which names what is malformed.

    An EventSource that reconnects keeps its first URL, so the header takes precedence.
    """
    query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    log_id = query["log"][-1] if "log" in query else None
    if log_id is not None and not _LOG.fullmatch(log_id):
        raise invalid("log: not a log_id", field="log")
    name, said, text = "Last-Event-ID", "last_event_id", header(scope, b"last-event-id")
    if not text and "after" in query:
        name, said, text = "after", "after", query["after"][-1]
    if not text and name == "Last-Event-ID":
        return ResumePoint(None, log_id, "")
    match = _POSITION.fullmatch(text)
    if match is None:
        raise invalid(f"{name}: neither <seq> nor <seq>:<log_id>", field=name)
    return ResumePoint(int(match[1]), match[2] or log_id, said)


def heartbeat_of(scope: Scope) -> bytes:
    """The heartbeat that the caller wants (``?heartbeat=event``). Raises ApiError 400."""
    match = _HEARTBEAT.search(scope["query_string"])
    if match is None or match[1] == b"comment":
        return sse.HEARTBEAT
    if match[1] == b"event" and scope["path"].startswith("/v1/streams"):
        return sse.HEARTBEAT_EVENT
    raise invalid("heartbeat: comment or event", field="heartbeat")


def wait_of(scope: Scope) -> float | None:
    """How many seconds a poll waits at most (protocol P18). Raises ApiError 400."""
    match = _WAIT.search(scope["query_string"])
    if match is None:
        return None
    if match[1] is None:
        raise invalid(f"wait: seconds, from 0 to {MAX_WAIT_S:g}", field="wait")
    return float(match[1])


def is_poll(scope: Scope) -> bool:
    """Whether the call is a poll: a finished response that waits for news."""
    return _WAIT.search(scope["query_string"]) is not None and not wants_stream(scope)
