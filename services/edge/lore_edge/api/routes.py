"""The calls that need no speed: the JSON view, revive, cancel, the page, unknown addresses."""

import functools
import json
import math
import re
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lore.metrics import REQUESTS_REVIVED
from lore.protocol.commands import Cancel, Revive
from lore.store.base import Outcome, Position, Store, StoreUnavailable
from lore_edge.admission.served_model import ServedModel
from lore_edge.api.page import web_routes
from lore_edge.auth import stream_tokens
from lore_edge.delivery import listing, views
from lore_edge.reference.openapi import document
from lore_edge.settings import EdgeSettings
from lore_edge.wire import call_trace
from lore_edge.wire.asgi import COMMON_HEADERS
from lore_edge.wire.errors import ApiError, UnknownRequest, as_api_error, count, not_found
from lore_edge.wire.ids import REQUEST_ID
from lore_edge.wire.prefix import prefix_of
from lore_edge.wire.resume import wait_of, wanted
from lore_edge.wire.subject import subject_of

_ID = re.compile(REQUEST_ID)
_ERRORS = (ApiError, UnknownRequest, StoreUnavailable, HTTPException)


def rest(store: Store, settings: EdgeSettings, served: ServedModel) -> Starlette:
    async def view(request: Request, status: int = 200) -> Response:
        request_id, owner = _whose(request)
        found, text = await views.read(store, request_id, owner)
        call_trace.about(request.scope, found)
        metadata = views.metadata_of(await store.body(request_id))
        prefix = prefix_of(request.scope, settings)
        return _json(views.describe(found, text, settings.edge_id, metadata, prefix), status)

    async def messages(request: Request) -> Response:
        request_id, owner = _whose(request)
        found = await views.owned(store, request_id, owner)
        call_trace.about(request.scope, found)
        return _json({"messages": views.asked(found, await store.body(request_id))}, 200)

    async def revive(request: Request) -> Response:
        request_id, owner = _whose(request)
        position = await store.do(Revive(request_id, subject=owner))
        _check(position, "not_reaped", "nothing is to be revived")
        REQUESTS_REVIVED.inc()
        return await view(request, 202)

    async def token(request: Request) -> Response:
        request_id, subject = _whose(request)  # whether it is theirs shows when the token is used
        expires_s = math.ceil(time.time()) + settings.stream_token_s
        expires_at = datetime.fromtimestamp(expires_s, UTC).isoformat().replace("+00:00", "Z")
        token = stream_tokens.issue(settings.secret, subject, request_id, expires_s=expires_s)
        return _json({"token": token, "expires_at": expires_at}, 201)

    class Streams(HTTPEndpoint):
        async def get(self, request: Request) -> Response:
            statuses, limit = listing.asked(request.url.query)
            found = await listing.own(store, subject_of(request.scope), statuses, limit)
            prefix = prefix_of(request.scope, settings)
            return _json(listing.described(found, settings.edge_id, prefix), 200)

        post = staticmethod(_nothing)

    class Stream(HTTPEndpoint):
        async def get(self, request: Request) -> Response:
            for check in (wanted, wait_of):  # the same refusals, whatever ``Accept`` says
                check(request.scope)
            return await view(request)

        async def delete(self, request: Request) -> Response:
            retention_ms = round(settings.retention_s * 1000)
            request_id, owner = _whose(request)
            position = await store.do(Cancel(request_id, retention_ms=retention_ms, subject=owner))
            _check(position, "already_ended", "the request ended before")
            return Response(status_code=204, headers=_COMMON)

    app = Starlette(
        routes=[
            Route("/v1/streams", Streams),
            Route("/v1/streams/{request_id}", Stream),
            Route("/v1/streams/{request_id}/ack", _nothing, methods=["POST"]),
            Route("/v1/streams/{request_id}/messages", messages, methods=["GET"]),
            Route("/v1/streams/{request_id}/revive", revive, methods=["POST"]),
            Route("/v1/streams/{request_id}/token", token, methods=["POST"]),
            Route("/openapi.json", _description(settings)),
            *web_routes(settings, served),
        ],
        exception_handlers=dict.fromkeys(_ERRORS, _answer_error),
    )
    app.router.redirect_slashes = False
    return app


def _description(settings: EdgeSettings) -> Callable[[Request], Awaitable[Response]]:
    @functools.lru_cache(maxsize=8)
    def described(prefix: str) -> bytes:
        whole = document(settings.request_limits, prefix)
        return json.dumps(whole, ensure_ascii=False).encode()

    async def description(request: Request) -> Response:
        body = described(prefix_of(request.scope, settings))
        return Response(body, headers=_COMMON, media_type="application/json")

    return description


_COMMON = {name.decode(): value.decode() for name, value in COMMON_HEADERS}


def _whose(request: Request) -> tuple[str, str]:
    """The request id in the path, and the caller's subject.

    Raises ApiError 404 for what cannot be an id.
    """
    request_id: str = request.path_params["request_id"]
    if not _ID.fullmatch(request_id):
        raise not_found()
    return request_id, subject_of(request.scope)


def _check(position: Position, code: str, message: str) -> None:
    if position.outcome is Outcome.UNKNOWN:
        raise not_found()
    if position.outcome is not Outcome.OK:
        raise ApiError(409, code, f"{message}; it is {position.status}")


async def _nothing(_: Request) -> Response:
    """Nothing exists below a path whose well-formed addresses app.py serves."""
    raise not_found()


def _json(data: object, status: int) -> Response:
    return JSONResponse(data, status, headers=_COMMON)


async def _answer_error(_: Request, raised: Exception) -> Response:
    error = as_api_error(raised)
    count(error)
    return Response(
        error.body(), error.status, {**_COMMON, **error.headers}, media_type="application/json"
    )
