"""The trace of a call: W3C Trace Context in and out, and the request that the call is about.

A call that creates a request begins the trace in which the request continues. Any later call has a
trace of its own (or its caller's) and links to the request's. Its span begins as soon as the link
is known, because the link decides whether the span is sampled. Refused callers get no spans, so
that a stranger's flood does not become spans.
"""

import re
import time
from collections.abc import Iterable, MutableMapping
from typing import Any

from structlog.contextvars import bind_contextvars, unbind_contextvars

from lore import logs, tracing
from lore.store.base import View
from lore.tracing import NOTHING, Span
from lore_edge.wire.asgi import Scope, Send, header
from lore_edge.wire.ids import REQUEST_ID
from lore_edge.wire.resume import is_poll
from lore_edge.wire.subject import is_identified

CALL = "lore.call"  # the key in the scope
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
_NOT_TRACED = re.compile(rf"(?!/v1/).*|/v1/streams/{REQUEST_ID}/ack", re.DOTALL)
"""Not traced: files, and acks, because there is one for every few chunks. Polls are not traced
either, for the same reason.
"""


class CallTrace:
    """The span of a call. It is begun by the first code that knows the link, at the latest by the
    answer.
    """

    def __init__(self, scope: Scope, routes: Iterable[tuple[re.Pattern[str], str]]) -> None:
        self.span = NOTHING
        self._link = ""
        self._began_ns = time.time_ns()
        self._scope = scope
        self._routes = routes

    def begin(self, link: str = "") -> Span:
        if self.span is not NOTHING:
            if link and link not in (self.span.context, self._link):
                self.span.link(link)
            self._link = self._link or link
            return self.span
        self._link, scope = link, self._scope
        method, path = scope["method"], scope["path"]
        method = method if method in _METHODS else "_OTHER"
        attributes = {"http.request.method": method, "url.scheme": scope["scheme"]}
        route = next((route for pattern, route in self._routes if pattern.fullmatch(path)), "")
        if route:
            attributes["http.route"] = route
        parent = f"{header(scope, b'traceparent')} {header(scope, b'tracestate')}".strip()
        self.span = tracing.begin(
            f"{method} {route}".strip(),
            parent=parent,
            link=link,
            kind="server",
            began_ns=self._began_ns,
            attributes=attributes,
        )
        return self.span

    async def answer(self, send: Send, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start" and is_identified(self._scope):
            span = self.begin()
            status = message["status"]
            span.set({"http.response.status_code": status})
            if status >= 500:
                span.fail(str(status))
            message["headers"] = [*message["headers"], _told(span)]
        await send(message)


def patterns(paths: Iterable[str]) -> list[tuple[re.Pattern[str], str]]:
    """Patterns of the API's paths with their names: spans are counted by these names."""
    return [(re.compile(re.sub(r"{\w+}", "[^/]+", path)), path) for path in paths]


def traced(scope: Scope) -> bool:
    return tracing.is_on() and not _NOT_TRACED.fullmatch(scope["path"]) and not is_poll(scope)


def about_none() -> None:
    """Forget the request: connections are reused, and their log context with them."""
    unbind_contextvars("request_id", "trace_id")


def begin(scope: Scope) -> Span:
    """Begin the span of a call that is about no existing request."""
    call: CallTrace | None = scope.get(CALL)
    return call.begin() if call else NOTHING


def about(scope: Scope, view: View) -> Span:
    """Begin the span of a call about this request. From here on, the call's log lines name the
    request.
    """
    bind_contextvars(**logs.of(view))
    call: CallTrace | None = scope.get(CALL)
    if call is None:
        return NOTHING
    span = call.begin(view.trace)
    span.set({"lore.request.id": view.request_id})
    return span


def _told(span: Span) -> tuple[bytes, bytes]:
    """The header ``Server-Timing``, from which browser instrumentation reads the trace."""
    return b"server-timing", f'traceparent;desc="{span.context.partition(" ")[0]}"'.encode()
