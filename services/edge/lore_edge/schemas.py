"""The JSON of the native API as schemas: request bodies, the view, errors and events."""

from typing import Any

from lore.protocol.lifecycle import Status
from lore.request import StreamRequest
from lore_edge.create import REQUEST_ID
from lore_edge.positions import MAX_SEQ, POSITION

Json = dict[str, Any]

_REASONS = [
    *("open", "claimed", "paused", "resumed", "failed_over"),
    *("released", "reaped", "revived", "drain", "store_lost"),
]


def _object(properties: Json, *, description: str = "", optional: tuple[str, ...] = ()) -> Json:
    required = [name for name in properties if name not in optional]
    described = {"description": description} if description else {}
    return {"type": "object", **described, "properties": properties, "required": required}


def ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def integer(minimum: int = 0, **more: Any) -> Json:
    return {"type": "integer", "minimum": minimum, **more}


STRING: Json = {"type": "string"}
_NULLABLE: Json = {"type": ["string", "null"]}
_TIME: Json = {"type": ["string", "null"], "format": "date-time"}
_STATUS: Json = {"type": "string", "enum": [str(status) for status in Status]}
REQUEST_ID_TEXT: Json = {"type": "string", "pattern": f"^{REQUEST_ID}$"}
_SEQ: Json = integer(1, maximum=MAX_SEQ)


def _event(name: str, data: str, optional: tuple[str, ...] = ()) -> Json:
    """One server-sent event, as a parser of them gives it out."""
    content = {"contentMediaType": "application/json", "contentSchema": ref(data)}
    return _object({"event": {"const": name}, "data": {**STRING, **content}}, optional=optional)


def _any_event() -> Json:
    chunk = _event("message", "ChunkEvent", optional=("event",))
    chunk["properties"]["id"] = {"type": "string", "pattern": f"^{POSITION}$"}
    chunk["required"].append("id")
    others = [("state", "StateEvent"), ("end", "EndEvent"), ("error", "Error")]
    return {
        "description": "One event of the stream: a chunk, which has an id, or one with a name.",
        "oneOf": [chunk, *(_event(name, data) for name, data in others)],
    }


def _stream_request() -> Json:
    """The body of POST /v1/streams, with the rule that a JSON schema is not told by itself."""
    schema = StreamRequest.model_json_schema(ref_template="#/components/schemas/{model}")
    schema["oneOf"] = [
        {"required": ["question"], "properties": {"question": {"type": "string"}}},
        {"required": ["messages"], "properties": {"messages": {"type": "array"}}},
    ]
    return schema


def schemas() -> Json:
    request = _stream_request()
    usage = {name: integer() for name in ("prompt_tokens", "completion_tokens", "total_tokens")}
    error = _object({"code": STRING, "message": STRING, "field": STRING}, optional=("field",))
    counts = {
        name: integer()
        for name in ("acked_seq", "generated_tokens", "acked_tokens", "window", "prompt_tokens")
    }
    view: Json = {
        "request_id": REQUEST_ID_TEXT,
        "status": _STATUS,
        "log_id": STRING,
        "next_seq": integer(1),
        **counts,
        "finish_reason": _NULLABLE,
        "error": _NULLABLE,
        "created_at": _TIME,
        "started_at": _TIME,
        "finished_at": _TIME,
        "metadata": {"type": "object", "additionalProperties": STRING},
        "stream_url": {"type": "string", "format": "uri-reference"},
        "edge": STRING,
    }
    return {
        **request.pop("$defs"),
        "StreamRequest": request,
        "AckBody": {
            **_object({"seq": _SEQ}, description="Everything up to `seq` is here (P9)."),
            "additionalProperties": False,
        },
        "View": _object(view | {"text": {"type": "string", "description": "the answer so far"}}),
        "Streams": _object({"streams": {"type": "array", "items": _object(view)}}),
        "StreamToken": _object(
            {"token": STRING, "expires_at": {"type": "string", "format": "date-time"}}
        ),
        "Error": _object({"error": error}),
        "Event": _any_event(),
        "ChunkEvent": _object({"seq": _SEQ, "text": STRING, "tokens": integer()}),
        "StateEvent": _object(
            {
                "status": _STATUS,
                "reason": {"type": "string", "enum": _REASONS},
                "log_id": STRING,
                "edge": STRING,
                "window": integer(),
                "acked_seq": integer(),
                "generated_tokens": integer(),
                "rto_ms": {"type": ["number", "null"]},
                "retransmits": integer(),
                "silence_ms": integer(),
            }
        ),
        "EndEvent": _object(
            {
                "status": _STATUS,
                "finish_reason": _NULLABLE,
                "error": _NULLABLE,
                "last_seq": integer(),
                "usage": _object(usage),
            }
        ),
    }
