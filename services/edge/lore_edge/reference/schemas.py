"""The JSON of the native API as schemas: request bodies, the view, errors and events."""

from typing import Any

from lore.protocol.lifecycle import Status
from lore.request import OF_MESSAGES, StreamRequest
from lore_edge.admission.create import MAX_KEY_CHARS
from lore_edge.wire.ids import REQUEST_ID
from lore_edge.wire.resume import MAX_SEQ, POSITION

Json = dict[str, Any]

_REASONS = [
    *("open", "claimed", "paused", "resumed", "failed_over"),
    *("other_model", "released", "reaped", "revived", "drain", "store_lost"),
]


def _object(properties: Json, *, description: str = "", optional: tuple[str, ...] = ()) -> Json:
    required = [name for name in properties if name not in optional]
    described = {"description": description} if description else {}
    return {"type": "object", **described, "properties": properties, "required": required}


def ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def list_of(items: Json) -> Json:
    return {"type": "array", "items": items}


def parameter(place: str, name: str, description: str, schema: Json) -> Json:
    about = {"description": description, "required": place == "path", "schema": schema}
    return {"in": place, "name": name, **about}


def operation(name: str, summary: str, responses: Json, **more: Any) -> Json:
    return {"operationId": name, "summary": summary, **more, "responses": responses}


def json_body(schema: str) -> Json:
    return {"content": {"application/json": {"schema": ref(schema)}}}


def integer(minimum: int = 0, **more: Any) -> Json:
    return {"type": "integer", "minimum": minimum, **more}


STRING: Json = {"type": "string"}
NULLABLE: Json = {"type": ["string", "null"]}
_COUNT_OR_NULL: Json = {"type": ["integer", "null"], "minimum": 0}
_TIME: Json = {"type": ["string", "null"], "format": "date-time"}
_STATUS: Json = {"type": "string", "enum": [str(status) for status in Status]}
REQUEST_ID_TEXT: Json = {"type": "string", "pattern": f"^{REQUEST_ID}$"}
_SEQ: Json = integer(1, maximum=MAX_SEQ)
KEY = parameter(
    "header",
    "Idempotency-Key",
    "makes a retried POST the same request",
    {"type": "string", "minLength": 1, "maxLength": MAX_KEY_CHARS},
)
RETRY_AFTER = "seconds to wait before asking again"
_ABOUT = ("title", "description", "default")  # members of a schema that do not restrict its values


def _event(name: str, data: str, optional: tuple[str, ...] = ()) -> Json:
    """One server-sent event, as a parser returns it."""
    content = {"contentMediaType": "application/json", "contentSchema": ref(data)}
    return _object({"event": {"const": name}, "data": {**STRING, **content}}, optional=optional)


def _scored(more: Json) -> Json:
    numbers = list_of(integer(maximum=255))
    return _object({"token": STRING, "logprob": {"type": "number"}, "bytes": numbers, **more})


_LOGPROBS: Json = {
    **list_of(_scored({"top_logprobs": list_of(_scored({}))})),
    "description": "Of each token, if the request asked for them (H16).",
}

_IDS: dict[str, Json] = {
    name: {**list_of(integer()), "description": f"{what}, if asked for (H18)"}
    for name, what in (
        ("token_ids", "the ids of these tokens"),
        ("prompt_token_ids", "those of the prompt, beside the first chunk"),
    )
}
_IF_ASKED_FOR = ("logprobs", *_IDS)


def _any_event() -> Json:
    chunk = _event("message", "ChunkEvent", optional=("event",))
    chunk["properties"]["id"] = {"type": "string", "pattern": f"^{POSITION}$"}
    chunk["required"].append("id")
    others = [("state", "StateEvent"), ("end", "EndEvent"), ("error", "Error")]
    return {
        "description": "One event of the stream: a chunk with an `id`, or an event with a name.",
        "oneOf": [chunk, *(_event(name, data) for name, data in others)],
    }


def let_null_say_nothing(schema: Json) -> None:
    """Allow null wherever a field may be left out (H9)."""
    null, properties = {"type": "null"}, schema["properties"]
    for field in properties.keys() - set(schema.get("required", ())):
        inside = properties[field]
        if null not in inside.get("anyOf", ()):
            outside = {word: inside.pop(word) for word in _ABOUT if word in inside}
            properties[field] = {"anyOf": [inside, null], **outside}


def _stream_request() -> Json:
    """The body of POST /v1/streams, with the rules that the generated schema lacks."""
    schema = StreamRequest.model_json_schema(ref_template="#/components/schemas/{model}")
    let_null_say_nothing(schema)
    null = {"type": "null"}
    of_messages = [
        {"required": ["question"], "properties": {"question": {"type": "string"}, "prompt": null}},
        {"required": ["messages"], "properties": {"messages": {"type": "array"}, "prompt": null}},
    ]
    of_a_prompt = {"prompt": {"type": ["string", "array"]}, **dict.fromkeys(OF_MESSAGES, null)}
    schema["anyOf"] = [*of_messages, {"required": ["prompt"], "properties": of_a_prompt}]
    return schema


def schemas() -> Json:
    request, error = _stream_request(), {"code": STRING, "message": STRING, "field": STRING}
    return {
        **request.pop("$defs"),
        "StreamRequest": request,
        "AckBody": {
            **_object({"seq": _SEQ}, description="The reader has every chunk up to `seq` (P9)."),
            "additionalProperties": False,
        },
        **_views(),
        "Poll": _poll(),
        "StreamToken": _object(
            {"token": STRING, "expires_at": {"type": "string", "format": "date-time"}}
        ),
        "Error": _object({"error": _object(error, optional=("field",))}),
        **_events(),
    }


def _views() -> Json:
    counts = ("acked_seq", "generated_tokens", "acked_tokens", "window", "prompt_tokens")
    view: Json = {
        "request_id": REQUEST_ID_TEXT,
        "status": _STATUS,
        "log_id": STRING,
        "next_seq": integer(1),
        **{name: integer() for name in counts},
        "finish_reason": NULLABLE,
        "error": NULLABLE,
        "model": NULLABLE,
        "created_at": _TIME,
        "started_at": _TIME,
        "finished_at": _TIME,
        "metadata": {"type": "object", "additionalProperties": STRING},
        "stream_url": {"type": "string", "format": "uri-reference"},
        "edge": STRING,
    }
    return {
        "View": _object(view | {"text": {"type": "string", "description": "the answer so far"}}),
        "Streams": _object({"streams": list_of(_object(view))}),
        "Conversation": _object({"messages": list_of(ref("Message"))}),
    }


def _poll() -> Json:
    return _object(
        {
            "request_id": REQUEST_ID_TEXT,
            "log_id": {
                "type": "string",
                "description": "the log of `seq`; poll next with `after=<seq>:<log_id>`",
            },
            "after": integer(maximum=MAX_SEQ),
            "seq": integer(maximum=MAX_SEQ),
            "text": {"type": "string", "description": "the text after `after`, up to `seq`"},
            "tokens": _COUNT_OR_NULL,
            "logprobs": _LOGPROBS,
            **_IDS,
            "state": ref("StateEvent"),
            "end": {"oneOf": [ref("EndEvent"), {"type": "null"}]},
        },
        optional=_IF_ASKED_FOR,
    )


def _events() -> Json:
    usage = {name: integer() for name in ("prompt_tokens", "completion_tokens", "total_tokens")}
    return {
        "Event": _any_event(),
        "ChunkEvent": _object(
            {"seq": _SEQ, "text": STRING, "tokens": integer(), "logprobs": _LOGPROBS, **_IDS},
            optional=_IF_ASKED_FOR,
        ),
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
                "finish_reason": NULLABLE,
                "error": NULLABLE,
                "last_seq": integer(),
                "usage": _object(usage),
            }
        ),
    }
