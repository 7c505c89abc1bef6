"""The API described once, in OpenAPI 3.1: what ``GET /openapi.json`` answers.

Bodies come from the models that check them, positions from the patterns that read them.
PROTOCOL.md says what the words mean.
"""

from collections import defaultdict
from functools import lru_cache
from importlib.metadata import version
from typing import Any

from lore.request_limits import RequestLimits, with_limits
from lore_edge.create import MAX_KEY_CHARS
from lore_edge.listing import MAX_LIMIT, STATES
from lore_edge.openai import description as openai
from lore_edge.positions import LOG_ID, POSITION
from lore_edge.schemas import REQUEST_ID_TEXT, STRING, Json, integer, ref, schemas

ERRORS: dict[str, tuple[int, str]] = {
    "invalid_request": (400, "malformed or out of range; `field` names what; nothing changed"),
    "invalid_json": (400, "the body is not valid JSON; nothing changed"),
    "prompt_too_long": (400, "more characters than a prompt may have; nothing changed"),
    "context_length_exceeded": (400, "more tokens than the model's context takes"),
    "answer_too_long": (400, "with `max_tokens`, more tokens than a minute may have; see P17"),
    "unauthorized": (401, "no key or token, or none that is good here"),
    "host_not_allowed": (403, "this edge does not answer to the host that the call names"),
    "not_found": (404, "no such request, or it is no longer kept, or it is somebody else's"),
    "method_not_allowed": (405, "`Allow` names what can be done at this address"),
    "ack_ahead_of_log": (409, "this seq is not yet in the log"),
    "already_ended": (409, "the request ended before it could be cancelled"),
    "not_reaped": (409, "there is nothing to revive"),
    "history_lost": (410, "the end of the text that the reader has was lost with a store"),
    "given_up": (410, "the answer was read to its end and then given up by a full store"),
    "body_too_large": (413, "the body is longer than is taken"),
    "not_json": (415, "the body does not say that it is JSON"),
    "unsupported_encoding": (415, "the body is compressed; send it as it is"),
    "idempotency_key_reused": (422, "this key was used for another body, or a deleted request"),
    "queue_full": (429, "too many requests are waiting"),
    "too_many_streams": (429, "this client has all the live requests it may have"),
    "too_many_requests": (429, "this client asked all that it may ask in a minute"),
    "too_many_tokens": (429, "this client uses all the tokens that it may use in a minute"),
    "auth_unavailable": (503, "this token cannot be checked at the moment"),
    "store_unavailable": (503, "the store cannot be reached at the moment"),
    "store_full": (503, "the store is full; `Retry-After` says when there is room"),
    "draining": (503, "this edge is shutting down; another one takes the stream"),
}
"""Every code of an error that a call is answered with: its status, and what it means."""

CONNECTION_ERRORS: dict[str, tuple[int, str]] = {
    "invalid_http": (400, "the bytes are no request that HTTP/1.1 allows"),
    "request_timeout": (408, "the head or the body did not come in time"),
    "url_too_long": (414, "the address is longer than is taken"),
    "expectation_failed": (417, "only `Expect: 100-continue` can be met"),
    "too_many_connections": (429, "there are too many connections from this address"),
    "headers_too_large": (431, "a header field, or all together, are larger than is taken"),
    "internal_error": (500, "this edge failed"),
    "not_implemented": (501, "this method or transfer coding is not known here"),
    "edge_full": (503, "this edge has as many connections as it can have"),
    "http_version_not_supported": (505, "only HTTP/1.1 and HTTP/1.0 are spoken here"),
}
"""Errors that may come before a call is looked at, at any address; the connection closes."""

_BODY_ERRORS = (
    *("invalid_request", "invalid_json", "body_too_large"),
    *("not_json", "unsupported_encoding"),
)
_STREAM_ERRORS = ("invalid_request", "history_lost", "given_up", "store_unavailable", "draining")


def _parameter(place: str, name: str, description: str, schema: Json) -> Json:
    return {
        "in": place,
        "name": name,
        "description": description,
        "required": place == "path",
        "schema": schema,
    }


_ID = _parameter("path", "request_id", "128 random bits, URL-safe", REQUEST_ID_TEXT)
_KEY = _parameter(
    "header",
    "Idempotency-Key",
    "makes a retried POST the same request",
    {"type": "string", "minLength": 1, "maxLength": MAX_KEY_CHARS},
)
_POSITIONS = [
    _parameter(
        "header",
        "Last-Event-ID",
        "the last event the reader has, `<seq>` or `<seq>:<log_id>`; it counts before `after`",
        {"type": "string", "pattern": f"^({POSITION})?$"},
    ),
    _parameter(
        "query",
        "after",
        "the same, in the address",
        {"type": "string", "pattern": f"^{POSITION}$"},
    ),
    _parameter(
        "query",
        "log",
        "the log that a plain seq counts in (P4)",
        {"type": "string", "pattern": f"^{LOG_ID}$"},
    ),
]


def _header(description: str, schema: Json) -> Json:
    return {"description": description, "required": True, "schema": schema}


_CHALLENGE = {"WWW-Authenticate": _header("`Bearer`, as RFC 6750 says", STRING)}
_RETRY_AFTER = {"Retry-After": _header("seconds to wait before asking again", integer())}
_HEADERS = {401: _CHALLENGE, 429: _RETRY_AFTER, 503: _RETRY_AFTER}
_NAMING = {
    "Location": _header("the address of the stream, naming its log", STRING),
    "X-Request-Id": _header("the request's id", REQUEST_ID_TEXT),
}


def _body(schema: str) -> Json:
    return {"required": True, "content": {"application/json": {"schema": ref(schema)}}}


def _view(description: str, **more: Any) -> Json:
    return {**_json("View", description), **more}


def _json(schema: str, description: str) -> Json:
    return {"description": description, "content": {"application/json": {"schema": ref(schema)}}}


def _empty(description: str) -> Json:
    return {"description": description}


def _refusals(*codes: str) -> Json:
    """The responses that carry these errors, one for each status."""
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
        "acknowledge": link("acknowledge", requestBody={"seq": 1}),
        "revive": link("reviveStream"),
        "cancel": link("cancelStream"),
        "token": link("createStreamToken"),
    }


def _operation(name: str, summary: str, responses: Json, **more: Any) -> Json:
    return {"operationId": name, "summary": summary, **more, "responses": responses}


AUTH_ERRORS = ("unauthorized", "host_not_allowed", "auth_unavailable")
"""Any call may end with these, unless it is open to everybody."""
PUBLIC: Json = {"security": []}
_BY_STREAM_TOKEN: Json = {"security": [{"bearer": []}, {"streamToken": []}]}
_SECURITY_SCHEMES: Json = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "an API key, or a JWT"},
    "streamToken": {
        "type": "apiKey",
        "in": "query",
        "name": "token",
        "description": "for EventSource, which sends no header: opens the one request that it "
        "was made for, to read its stream and to acknowledge",
    },
}


def _create() -> Json:
    body_id, header_id = "$response.body#/request_id", "$response.header.X-Request-Id"
    return _operation(
        "createStream",
        "Ask; with `Accept: text/event-stream`, the answer is the stream itself",
        {
            "200": {
                "description": "the stream",
                "headers": _NAMING,
                "content": {"text/event-stream": {"schema": ref("Event")}},
                "links": _links(header_id),
            },
            "201": _view("accepted", headers=_NAMING, links=_links(body_id)),
            "204": _empty("a retried POST whose reader has the whole answer"),
            **_refusals(
                *AUTH_ERRORS,
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
        parameters=[_KEY, *_POSITIONS],
        requestBody=_body("StreamRequest"),
    )


def _list() -> Json:
    limit = integer(1, maximum=MAX_LIMIT)
    return _operation(
        "listStreams",
        "The caller's own requests, newest first",
        {
            "200": _json("Streams", "their JSON views, without the texts"),
            **_refusals(*AUTH_ERRORS, "invalid_request", "store_unavailable"),
        },
        parameters=[
            _parameter("query", "state", "which ones; all unless it is said", {"enum": [*STATES]}),
            _parameter("query", "limit", "how many at most", limit),
        ],
    )


def _read() -> Json:
    stream = _view("the JSON view; with `Accept: text/event-stream`, the stream")
    stream["content"]["text/event-stream"] = {"schema": ref("Event")}
    return _operation(
        "readStream",
        "Read a request and its answer so far, or follow the stream after a position",
        {
            "200": stream,
            "204": _empty("the answer ended, and the reader has all of it"),
            **_refusals(*AUTH_ERRORS, "not_found", *_STREAM_ERRORS),
        },
        parameters=_POSITIONS,
        **_BY_STREAM_TOKEN,
    )


def _acknowledge() -> Json:
    return _operation(
        "acknowledge",
        "Say up to which chunk everything has arrived",
        {
            "204": _empty("taken, now or before"),
            **_refusals(
                *AUTH_ERRORS, *_BODY_ERRORS, "not_found", "ack_ahead_of_log", "store_unavailable"
            ),
        },
        requestBody=_body("AckBody"),
        **_BY_STREAM_TOKEN,
    )


@lru_cache(maxsize=8)
def document(limits: RequestLimits, prefix: str = "") -> Json:
    """``describe``, once for all who only read it."""
    return describe(limits, prefix)


def describe(limits: RequestLimits | None = None, prefix: str = "") -> Json:
    """The OpenAPI document, of an edge with these limits."""
    cancel = {
        "204": _empty("cancelled, now or before"),
        **_refusals(*AUTH_ERRORS, "not_found", "already_ended", "store_unavailable"),
    }
    revive = {
        "202": _view("queued again"),
        **_refusals(*AUTH_ERRORS, "not_found", "not_reaped", "store_unavailable", "store_full"),
    }
    token = {
        "201": _json("StreamToken", "made; whether there is such a request, its use shows"),
        **_refusals(*AUTH_ERRORS, "not_found"),
    }
    this = {"200": {"description": "this document", "content": {"application/json": {}}}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Lore",
            "version": version("lore-edge"),
            "description": "Answers that survive lost connections, edges and generators. "
            "Whole numbers are written without a point or an exponent. "
            "A method that an address does not have is 405 `method_not_allowed` with `Allow`. "
            "These errors may come at any address, and close the connection:\n\n"
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
                "delete": _operation("cancelStream", "Cancel for good (P14)", cancel),
            },
            "/v1/streams/{request_id}/ack": {"parameters": [_ID], "post": _acknowledge()},
            "/v1/streams/{request_id}/revive": {
                "parameters": [_ID],
                "post": _operation("reviveStream", "Continue a reaped request (P16)", revive),
            },
            "/v1/streams/{request_id}/token": {
                "parameters": [_ID],
                "post": _operation(
                    "createStreamToken", "A short-lived token for the stream's address", token
                ),
            },
            "/openapi.json": {"get": _operation("describe", "This description", this, **PUBLIC)},
            **openai.paths(),
        },
        "security": [{"bearer": []}],
        "components": {
            "schemas": with_limits(schemas() | openai.schemas(), limits or RequestLimits()),
            "securitySchemes": _SECURITY_SCHEMES,
        },
    }
