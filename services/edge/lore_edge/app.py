"""The edge as an ASGI application.

Streams, acks and new requests are frequent and go straight to their handlers; all other calls go
through Starlette.
"""

import functools
import re
import time
from collections.abc import Awaitable

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.routing import Route

from lore.metrics import ACK_PROCESSING, ACKS
from lore.protocol.commands import Ack
from lore.protocol.sender import SenderConfig
from lore.store.base import Outcome, Store, StoreUnavailable, View
from lore_edge.admission.context import Context
from lore_edge.admission.create import create, key_of, parse
from lore_edge.admission.served_model import ServedModel
from lore_edge.api.routes import rest
from lore_edge.auth.authenticator import Authenticator
from lore_edge.delivery import views
from lore_edge.delivery.feeds import Feeds
from lore_edge.delivery.streams import Streams
from lore_edge.openai.errors import is_openai, told
from lore_edge.openai.handlers import OpenAI
from lore_edge.settings import EdgeSettings
from lore_edge.wire import call_trace, sse
from lore_edge.wire.asgi import (
    Disconnected,
    Receive,
    Scope,
    Send,
    answer,
    answer_error,
    check_json,
    check_length,
    parse_object,
    read_body,
    wants_stream,
)
from lore_edge.wire.errors import ApiError, UnknownRequest, as_api_error, count, invalid, not_found
from lore_edge.wire.ids import REQUEST_ID
from lore_edge.wire.prefix import prefix_of, without_root
from lore_edge.wire.resume import MAX_SEQ, wait_of, wanted
from lore_edge.wire.subject import client_of, subject_of

MAX_ACK_BYTES = 1024
READ_HEADERS = (
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "Last-Event-ID",
    "traceparent",
    "tracestate",
)
EXPOSED_HEADERS = ("Location", "Retry-After", "Server-Timing", "X-Request-Id", "X-Should-Retry")
_STREAM = re.compile(rf"/v1/streams/({REQUEST_ID})")
_ACK = re.compile(rf"/v1/streams/({REQUEST_ID})/ack")


class Origins(CORSMiddleware):
    """Pages of the configured origins may send any headers. The headers that Lore reads are always
    named, so that a browser needs one preflight for all its calls.
    """

    def preflight_response(self, request_headers: Headers) -> Response:
        answer = super().preflight_response(request_headers)
        asked = answer.headers.get("access-control-allow-headers", "")
        names = [name.strip() for name in asked.split(",") if name.strip()]
        known = {name.lower() for name in READ_HEADERS}
        others = [name for name in names if name.lower() not in known]
        answer.headers["access-control-allow-headers"] = ", ".join([*READ_HEADERS, *others])
        return answer


class Edge:
    """The edge. It holds nothing that another edge would miss."""

    def __init__(
        self, settings: EdgeSettings, store: Store, sender: SenderConfig | None = None
    ) -> None:
        """Raises BadAuth when authentication is not configured."""
        self.auth = Authenticator(settings)
        self.feeds = Feeds(store, settings)
        self.streams = Streams(store, self.feeds, settings, sender or SenderConfig())
        self._store = store
        self._settings = settings
        served = self._served = ServedModel(store, settings)
        self._rest = rest(store, settings, served)
        self._context = Context(store, settings)
        self.openai = OpenAI(store, settings, self.streams, self._context, served)
        native = [route.path for route in self._rest.routes if isinstance(route, Route)]
        self._routes = call_trace.patterns([*native, *self.openai.routes])
        self._app = self._serve
        if settings.cors_origins:
            self._app = Origins(
                self._serve,
                allow_origins=settings.cors_origins,
                allow_methods=("GET", "POST", "DELETE"),
                allow_headers=("*",),  # any that a page asks for; origins are checked
                allow_private_network=True,  # else Chromium may keep public pages from a laptop
                allow_credentials="*" not in settings.cors_origins,
                expose_headers=EXPOSED_HEADERS,
            )

    async def check_store(self) -> None:
        await self.streams.store_watch.check()
        if self.streams.store_watch.is_up:
            self.feeds.notice_losses()

    async def close(self) -> None:
        self.auth.close()
        self._context.close()
        self.streams.store_watch.close()
        self.feeds.close()

    # These methods return a coroutine in place of awaiting it: a stream keeps the frame of every
    # coroutine that waits for its end.

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if self._settings.root_path:
            scope["path"] = without_root(scope["path"], self._settings)
        return self._app(scope, receive, send)

    def _serve(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        call_trace.about_none()
        if not call_trace.traced(scope):
            return self._answer(scope, receive, send)
        return self._trace(scope, receive, send)

    async def _trace(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = scope[call_trace.CALL] = call_trace.CallTrace(scope, self._routes)
        try:
            await self._answer(scope, receive, functools.partial(call.answer, send))
        except BaseException as error:
            call.span.fail(type(error).__name__)
            raise
        finally:
            call.span.end()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if scope["path"] == "*":  # OPTIONS for the server as a whole (RFC 9110 section 9.3.7)
                await answer(send, 204, headers=[(b"allow", b"GET, HEAD, POST, DELETE, OPTIONS")])
                return
            if (root := self._settings.root_path) and scope["path"] == root:
                # The page's links are relative to its address, which must end with a slash.
                await answer(send, 308, headers=[(b"location", f"{root}/".encode())])
                return
            await self.auth.admit(scope)
            check_length(scope, self._settings.max_body_bytes)
            await self._dispatch(scope, receive, send)
        except (ApiError, UnknownRequest, StoreUnavailable) as error:
            found = as_api_error(error)
            count(found)
            await answer_error(send, told(found, scope["path"]))
        except Disconnected:
            pass

    def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        method, path = scope["method"], scope["path"]
        if method == "POST" and (match := _ACK.fullmatch(path)):
            return self._ack(scope, receive, send, match[1])
        if method == "GET" and (match := _STREAM.fullmatch(path)):
            wait_s, subject = wait_of(scope), subject_of(scope)
            if wants_stream(scope):
                return self.streams.serve(scope, receive, send, match[1], subject)
            if wait_s is not None:
                return self.streams.polls.serve(scope, receive, send, match[1], subject, wait_s)
        if method == "POST" and path == "/v1/streams":
            return self._create(scope, receive, send)
        if is_openai(path):
            return self.openai.serve(scope, receive, send)
        return self._rest(scope, receive, send)

    async def _ack(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        began = time.perf_counter()
        check_json(scope)
        seq = _seq(parse_object(await read_body(receive, MAX_ACK_BYTES)))
        subject = subject_of(scope)
        position = await self._store.do(Ack(request_id, seq, subject=subject))
        ACK_PROCESSING.observe(time.perf_counter() - began)
        ACKS[position.outcome].inc()
        if position.outcome is Outcome.UNKNOWN:
            raise not_found()
        if position.outcome is Outcome.AHEAD:
            raise ApiError(409, "ack_ahead_of_log", f"seq {seq} is not yet in the log", field="seq")
        if (feed := self.feeds.find(request_id, subject)) is not None:
            feed.on_acked(position.acked_seq)
        await answer(send, 204)

    async def _create(self, scope: Scope, receive: Receive, send: Send) -> None:
        subject, stream = subject_of(scope), wants_stream(scope)
        if stream:
            self.streams.check_open()
        wanted(scope)  # a malformed call must create nothing
        view, metadata = await self._created(scope, receive)
        if stream:
            request_id = view.request_id
            del view, metadata  # not kept while the stream lasts: the feed has a newer view
            await self.streams.serve(scope, receive, send, request_id, subject)
            return
        text = ""
        if view.next_seq > 1:  # a retried POST whose answer has begun
            view, text = await views.read(self._store, view.request_id, subject)
        prefix = prefix_of(scope, self._settings)
        described = views.describe(view, text, self._settings.edge_id, metadata, prefix)
        await answer(
            send,
            201,
            sse.encode_json(described).encode(),
            [
                (b"location", views.stream_url(view, prefix).encode()),
                (b"x-request-id", view.request_id.encode()),
            ],
        )

    async def _created(self, scope: Scope, receive: Receive) -> tuple[View, dict[str, str]]:
        """Create the request. It is a method of its own so that the body is not kept while the
        stream lasts.
        """
        check_json(scope)
        asked = parse(
            await read_body(receive, self._settings.max_body_bytes), self._settings.request_limits
        )
        key = key_of(scope)
        settings, subject = self._settings, subject_of(scope)
        client = client_of(scope, settings)
        await self._context.may_not_fit(asked)
        span = call_trace.begin(scope)
        parts = await self._served.parts_of(asked) if asked.callable_names else ""
        view = await create(self._store, settings, subject, client, asked, key, span, parts=parts)
        call_trace.about(scope, view)
        return view, asked.metadata or {}


def _seq(data: dict[str, object]) -> int:
    """The seq of an ack. Raises ApiError 400."""
    for name in data:
        if name != "seq":
            raise invalid(f"{name}: unknown field", field=name)
    seq = data.get("seq")
    if type(seq) is not int or not 1 <= seq <= MAX_SEQ:
        raise invalid("seq: a whole number, at least 1", field="seq")
    return seq
