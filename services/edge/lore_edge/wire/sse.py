"""Server-sent events as bytes (PROTOCOL.md, Server-sent events)."""

import base64
import json
import os
from collections.abc import Mapping, Sequence
from json.encoder import encode_basestring
from typing import Any

from lore.protocol.logprobs import Scored

_encode = json.JSONEncoder(ensure_ascii=False).encode  # escapes the line ends of ASCII

_LINE_ENDS = {ord(end): f"\\u{ord(end):04x}" for end in "\x85\u2028\u2029"}
RETRY_MS = 1000
PAD_LINE_BYTES = 747  # a thousand in base64
HEARTBEAT = b":\n"
"""A comment without an empty line after it. After an id, httpx-sse and the OpenAI SDK for Python
would make an event of the empty line.
"""


HEARTBEAT_EVENT = b"event: heartbeat\ndata: {}\n\n"
"""For an EventSource that watches for silence, because it does not hear comments (E5)."""


def padding(size: int) -> bytes:
    """Comments of about ``size`` bytes that compression cannot shrink."""
    lines = [b": " + base64.b64encode(os.urandom(PAD_LINE_BYTES)) for _ in range(size // 1000)]
    return b"".join(line + b"\n" for line in lines)


def encode_json(value: object) -> str:
    """JSON on one line, also for readers that split at Unicode's line ends, as httpx and requests
    do (E2).
    """
    text = _encode(value)
    return text if text.isascii() else text.translate(_LINE_ENDS)


def event_id(seq: int, fork: str) -> str:
    """The id of a chunk's event, from which readers resume; ``fork`` is its log, once that was
    forked (E3).
    """
    return f"{seq}:{fork}" if fork else str(seq)


def chunk(
    seq: int,
    text: str,
    tokens: int,
    event_id: str,
    scored: Sequence[Scored] = (),
    ids: Mapping[str, Sequence[int]] | None = None,
) -> bytes:
    """``tokens`` is how many the answer has up to here; ``ids`` are more members."""
    more = f', "logprobs": {encode_json([one.as_json() for one in scored])}' if scored else ""
    more += f", {encode_json(ids)[1:-1]}" if ids else ""
    quoted = encode_basestring(text)
    if not text.isascii():
        quoted = quoted.translate(_LINE_ENDS)
    data = f'{{"seq": {seq}, "text": {quoted}, "tokens": {tokens}{more}}}'
    return f"id: {event_id}\ndata: {data}\n\n".encode()


def event(name: str, data: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {encode_json(data)}\n\n".encode()


def data(value: dict[str, Any], event_id: str = "") -> bytes:
    """An event without a name."""
    identified = f"id: {event_id}\n" if event_id else ""
    return f"{identified}data: {encode_json(value)}\n\n".encode()


def retry(milliseconds: int) -> bytes:
    """The beginning of an event. It must not be sent alone: httpx-sse would make an event of it."""
    return f"retry: {milliseconds}\n".encode()
