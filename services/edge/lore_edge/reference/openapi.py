"""The API's description in OpenAPI 3.1, served as ``GET /openapi.json``.

Bodies come from the models that check them, positions from the patterns that read them.
PROTOCOL.md says what the words mean.
"""

from collections import defaultdict
from functools import lru_cache
from importlib.metadata import version
from typing import Any

from lore.request_limits import RequestLimits, with_limits
from lore_edge.delivery.listing import MAX_LIMIT, STATES
from lore_edge.reference import openai
from lore_edge.reference.schemas import (
    KEY,
    REQUEST_ID_TEXT,
    RETRY_AFTER,
    STRING,
    Json,
    integer,
    json_body,
    operation,
    parameter,
    ref,
    schemas,
)
from lore_edge.wire.resume import LOG_ID, POSITION, WAIT

ERRORS: dict[str, tuple[int, str]] = {
    "invalid_request": (
        400,
        "a value is malformed or out of range; `field` names it; nothing changed",
    ),
    "invalid_json": (400, "the body is not valid JSON; nothing changed"),
    "prompt_too_long": (400, "the prompt has too many characters; nothing changed"),
    "context_length_exceeded": (400, "the prompt has more tokens than the model's context takes"),
    "answer_too_long": (400, "prompt and `max_tokens` exceed the token limit of a minute (P17.18)"),
    "unauthorized": (401, "missing or invalid credentials"),
    "host_not_allowed": (403, "this edge does not serve the host that the call names"),
    "not_found": (404, "unknown request, no longer kept, or owned by another subject"),
    "method_not_allowed": (405, "method not supported here; `Allow` names those that are"),
    "ack_ahead_of_log": (409, "the log does not have this seq yet"),
    "already_ended": (409, "the request has already ended otherwise"),
    "not_reaped": (409, "the request is not reaped, so there is nothing to revive"),
    "history_lost": (410, "a store lost the end of the text that the reader has"),
    "given_up": (410, "a full store gave up the answer, which was read to its end"),
    "body_too_large": (413, "the body is too large"),
    "not_json": (415, "the `Content-Type` is not JSON"),
    "unsupported_encoding": (415, "compressed bodies are not supported"),
    "idempotency_key_reused": (422, "the key was used with another body, or for a deleted request"),
    "queue_full": (429, "the queue is full"),
    "too_many_streams": (429, "this client has reached its limit of live requests"),
    "too_many_requests": (429, "this client has exceeded its rate limit"),
    "too_many_tokens": (429, "this client has exceeded its token limit"),
    "auth_unavailable": (503, "the token cannot be verified at the moment"),
    "store_unavailable": (503, "the store is unavailable"),
    "store_full": (503, "the store is full; `Retry-After` says when there is room"),
    "no_model": (503, "no generator has reported yet how its model calls tools"),
    "draining": (503, "this edge is shutting down; another edge serves the stream"),
}
"""Every error code of the API: its status, and what it means."""

CONNECTION_ERRORS: dict[str, tuple[int, str]] = {
    "invalid_http": (400, "not a valid HTTP/1.1 request"),
    "request_timeout": (408, "the head or the body did not arrive in time"),
    "url_too_long": (414, "the URL is too long"),
    "expectation_failed": (417, "only `Expect: 100-continue` is supported"),
    "too_many_connections": (429, "too many connections from this address"),
    "headers_too_large": (431, "a header field is too large, or all of them together"),
    "internal_error": (500, "the edge failed"),
    "not_implemented": (501, "method or transfer coding not supported"),
    "edge_full": (503, "this edge has reached its limit of connections"),
    "http_version_not_supported": (505, "only HTTP/1.1 and HTTP/1.0 are supported"),
}
"""Errors that may occur at any address before a call is routed; the connection is then closed."""

_BODY_ERRORS = (
    *("invalid_request", "invalid_json", "body_too_large"),
    *("not_json", "unsupported_encoding"),
)
_STREAM_ERRORS = ("invalid_request", "history_lost", "given_up", "store_unavailable", "draining")


_ID = parameter("path", "request_id", "128 random bits, URL-safe", REQUEST_ID_TEXT)
_POSITIONS = [
    parameter(
        "header",
        "Last-Event-ID",
        "the last event that the reader has, `<seq>` or `<seq>:<log_id>`; overrides `after`",
        {"type": "string", "pattern": f"^({POSITION})?$"},
    ),
    parameter(
        "query",
        "after",
        "the same, in the query",
        {"type": "string", "pattern": f"^{POSITION}$"},
    ),
    parameter(
        "query",
        "log",
        "the log that a plain seq counts in (P4)",
        {"type": "string", "pattern": f"^{LOG_ID}$"},
    ),
]


_WAIT = parameter(
    "query",
    "wait",
    "how many seconds to wait for news; the response has what follows the position (P18); ignored "
    "with `Accept: text/event-stream`",
    {"type": "string", "pattern": f"^{WAIT}$"},
)


def _header(description: str, schema: Json) -> Json:
    return {"description": description, "required": True, "schema": schema}


_CHALLENGE = {"WWW-Authenticate": _header("`Bearer`, as RFC 6750 says", STRING)}
_RETRY_AFTER = {"Retry-After": _header(RETRY_AFTER, integer())}
_HEADERS = {401: _CHALLENGE, 429: _RETRY_AFTER, 503: _RETRY_AFTER}
_NAMING = {
    "Location": _header("the URL of the stream, with its log", STRING),
    "X-Request-Id": _header("the request's id", REQUEST_ID_TEXT),
}


def _json(schema: str, description: str, **more: Any) -> Json:
    return {"description": description, **json_body(schema), **more}


def _refusals(*codes: str) -> Json:
    """The responses for these error codes, one for each status."""
    by_status: defaultdict[int, list[str]] = defaultdict(list)
    for code in codes:
        by_status[ERRORS[code][0]].append(code)
    responses: Json = {}
    for status, found in sorted(by_status.items()):
        code = {"properties": {"error": {"properties": {"code": {"enum": found}}}}}
        responses[str(status)] = {
            "description": "; ".join(f"`{code}`: {ERRORS[code][1]}" for code in found),
            "content": {"application/json": {"schema": {"allOf": [ref("Error"), code]}}},
            **({"headers": _HEADERS[status]} if status in _HEADERS else {}),
        }
    return responses


def _links(request_id: str) -> Json:
    def link(call: str, **more: Any) -> Json:
        return {"operationId": call, "parameters": {"request_id": request_id}, **more}

    return {
        "read": link("readStream"),
        "messages": link("readMessages"),
        "acknowledge": link("acknowledge", requestBody={"seq": 1}),
        "revive": link("reviveStream"),
        "cancel": link("cancelStream"),
        "token": link("createStreamToken"),
    }


AUTH_ERRORS = ("unauthorized", "host_not_allowed", "auth_unavailable")
"""Errors with which any call may end, unless it is public."""
PUBLIC: Json = {"security": []}
_BY_STREAM_TOKEN: Json = {"security": [{"bearer": []}, {"streamToken": []}]}
_SECURITY_SCHEMES: Json = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "an API key, or a JWT"},
    "streamToken": {
        "type": "apiKey",
        "in": "query",
        "name": "token",
        "description": "for EventSource, which sends no headers; reads and acknowledges the one "
        "request that it was made for",
    },
}


def _create() -> Json:
    body_id, header_id = "$response.body#/request_id", "$response.header.X-Request-Id"
    return operation(
        "createStream",
        "Create a request; with `Accept: text/event-stream`, the response is the stream",
        {
            "200": {
                "description": "the stream",
                "headers": _NAMING,
                "content": {"text/event-stream": {"schema": ref("Event")}},
                "links": _links(header_id),
            },
            "201": _json("View", "accepted", headers=_NAMING, links=_links(body_id)),
            "204": {"description": "a retried POST; the reader has the whole answer"},
            **_refusals(
                *AUTH_ERRORS,
                "no_model",
                *_BODY_ERRORS,
                *_STREAM_ERRORS,
                "idempotency_key_reused",
                "store_full",
                "prompt_too_long",
                "context_length_exceeded",
                "answer_too_long",
                "queue_full",
                "too_many_streams",
                "too_many_requests",
                "too_many_tokens",
            ),
        },
        parameters=[KEY, *_POSITIONS],
        requestBody={"required": True, **json_body("StreamRequest")},
    )


def _list() -> Json:
    limit = integer(1, maximum=MAX_LIMIT)
    return operation(
        "listStreams",
        "List the caller's own requests, newest first",
        {
            "200": _json("Streams", "their JSON views, without the texts"),
            **_refusals(*AUTH_ERRORS, "invalid_request", "store_unavailable"),
        },
        parameters=[
            parameter("query", "state", "which states; all by default", {"enum": [*STATES]}),
            parameter("query", "limit", "how many at most", limit),
        ],
    )


def _read() -> Json:
    stream = _json(
        "View",
        "the JSON view; with `wait`, what follows the position; with `Accept: text/event-stream`, "
        "the stream",
    )
    stream["content"]["application/json"]["schema"] = {"anyOf": [ref("View"), ref("Poll")]}
    stream["content"]["text/event-stream"] = {"schema": ref("Event")}
    return operation(
        "readStream",
        "Read a request with its answer so far, poll for more, or follow the stream",
        {
            "200": stream,
            "204": {"description": "the answer has ended, and the reader has all of it"},
            **_refusals(*AUTH_ERRORS, "not_found", *_STREAM_ERRORS),
        },
        parameters=[*_POSITIONS, _WAIT],
        **_BY_STREAM_TOKEN,
    )


def _acknowledge() -> Json:
    return operation(
        "acknowledge",
        "Acknowledge all chunks up to a seq",
        {
            "204": {"description": "acknowledged (idempotent)"},
            **_refusals(
                *AUTH_ERRORS, *_BODY_ERRORS, "not_found", "ack_ahead_of_log", "store_unavailable"
            ),
        },
        requestBody={"required": True, **json_body("AckBody")},
        **_BY_STREAM_TOKEN,
    )


@lru_cache(maxsize=8)
def document(limits: RequestLimits, prefix: str = "") -> Json:
    """The result of ``describe``, cached for callers that only read it."""
    return describe(limits, prefix)


def describe(limits: RequestLimits | None = None, prefix: str = "") -> Json:
    """The OpenAPI document of an edge with these limits."""
    cancel = {
        "204": {"description": "cancelled (idempotent)"},
        **_refusals(*AUTH_ERRORS, "not_found", "already_ended", "store_unavailable"),
    }
    messages = {
        "200": _json("Conversation", "what was said before the answer"),
        **_refusals(*AUTH_ERRORS, "not_found", "given_up", "store_unavailable"),
    }
    revive = {
        "202": _json("View", "queued again"),
        **_refusals(*AUTH_ERRORS, "not_found", "not_reaped", "store_unavailable", "store_full"),
    }
    token = {
        "201": _json("StreamToken", "created, also for unknown ids"),
        **_refusals(*AUTH_ERRORS, "not_found"),
    }
    this = {"200": {"description": "this document", "content": {"application/json": {}}}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Lore",
            "version": version("lore-edge"),
            "description": "Answer streams that survive lost connections, edges and generators. "
            "Integers are written without a decimal point or an exponent. "
            "A method that is not supported gets 405 `method_not_allowed` with `Allow`. "
            "These errors may occur for any call, and close the connection:\n\n"
            + "\n".join(
                f"- {status} `{code}`: {meaning}"
                for code, (status, meaning) in CONNECTION_ERRORS.items()
            ),
        },
        "servers": [{"url": prefix or "/"}],
        "paths": {
            "/v1/streams": {"get": _list(), "post": _create()},
            "/v1/streams/{request_id}": {
                "parameters": [_ID],
                "get": _read(),
                "delete": operation("cancelStream", "Cancel (P14); final", cancel),
            },
            "/v1/streams/{request_id}/ack": {"parameters": [_ID], "post": _acknowledge()},
            "/v1/streams/{request_id}/messages": {
                "parameters": [_ID],
                "get": operation("readMessages", "Read what a request was asked (H13)", messages),
            },
            "/v1/streams/{request_id}/revive": {
                "parameters": [_ID],
                "post": operation("reviveStream", "Revive a reaped request (P16)", revive),
            },
            "/v1/streams/{request_id}/token": {
                "parameters": [_ID],
                "post": operation(
                    "createStreamToken", "Create a short-lived token for the stream's URL", token
                ),
            },
            "/openapi.json": {"get": operation("describe", "This description", this, **PUBLIC)},
            **openai.paths(),
        },
        "security": [{"bearer": []}],
        "components": {
            "schemas": with_limits(schemas() | openai.schemas(), limits or RequestLimits()),
            "securitySchemes": _SECURITY_SCHEMES,
        },
    }
