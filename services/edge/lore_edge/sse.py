"""Server-sent events as bytes (PROTOCOL.md, Server-sent events)."""

import json
from typing import Any

encode_json = json.JSONEncoder(ensure_ascii=False).encode  # escapes every line end

RETRY_MS = 1000
HEARTBEAT = b":\n\n"


def chunk(seq: int, text: str, id_suffix: str) -> bytes:
    """``id_suffix`` is ``:<log_id>`` in a forked log, else ''."""
    return f'id: {seq}{id_suffix}\ndata: {{"seq": {seq}, "text": {encode_json(text)}}}\n\n'.encode()


def event(name: str, data: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {encode_json(data)}\n\n".encode()


def retry(milliseconds: int) -> bytes:
    return f"retry: {milliseconds}\n\n".encode()
