"""Spans that are kept here instead of being sent, and a collector that they are sent to."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from lore import tracing
from lore.tracing.otel import OtelTracer
from tests.services.edge_harness import WAIT_S

CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
"""What a client sends as its ``traceparent``."""
TRACE_ID, CALLER_SPAN = CALLER.split("-")[1:3]


class Spans:
    """What has ended so far."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.tracer = OtelTracer("test", "here", self._exporter)

    def all(self) -> list[ReadableSpan]:
        """In the order of their beginnings."""
        self.tracer.flush()
        return sorted(self._exporter.get_finished_spans(), key=lambda span: span.start_time or 0)

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.all() if span.name == name]

    async def until(self, name: str, count: int = 1) -> list[ReadableSpan]:
        async with asyncio.timeout(WAIT_S):
            while len(found := self.named(name)) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        return found


@contextlib.contextmanager
def kept_spans() -> Iterator[Spans]:
    spans = Spans()
    tracing.use(spans.tracer)
    try:
        yield spans
    finally:
        tracing.stop()


def trace_of(span: ReadableSpan) -> str:
    assert span.context is not None
    return f"{span.context.trace_id:032x}"


def id_of(span: ReadableSpan) -> str:
    assert span.context is not None
    return f"{span.context.span_id:016x}"


def parent_of(span: ReadableSpan) -> str:
    return f"{span.parent.span_id:016x}" if span.parent else ""


def links_of(span: ReadableSpan) -> list[str]:
    return [f"{link.context.span_id:016x}" for link in span.links]


def events_of(span: ReadableSpan) -> list[str]:
    return [event.name for event in span.events]


def attribute(span: ReadableSpan, name: str) -> Any:
    return dict(span.attributes or {}).get(name)


class Collector(ThreadingHTTPServer):
    """Takes OTLP over HTTP, and keeps it as it came."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Taken)
        self.bodies: list[bytes] = []
        self.refuses = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def spans(self) -> dict[str, set[str]]:
        """The names of all spans, by the service that sent them."""
        found: dict[str, set[str]] = {}
        for body in list(self.bodies):
            for one in ExportTraceServiceRequest.FromString(body).resource_spans:
                told = {a.key: a.value.string_value for a in one.resource.attributes}
                names = found.setdefault(told["service.name"], set())
                names |= {span.name for scope in one.scope_spans for span in scope.spans}
        return found

    def names(self) -> set[str]:
        return {name for names in self.spans().values() for name in names}

    def traces(self) -> set[bytes]:
        requests = [ExportTraceServiceRequest.FromString(body) for body in list(self.bodies)]
        every = [one for request in requests for one in request.resource_spans]
        return {span.trace_id for one in every for s in one.scope_spans for span in s.spans}


class _Taken(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert self.path == "/v1/traces", self.path
        assert isinstance(self.server, Collector)
        self.server.bodies.append(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(401 if self.server.refuses else 200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None: ...


@contextlib.contextmanager
def collector() -> Iterator[Collector]:
    with Collector() as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.05,))
        serving.start()
        try:
            yield server
        finally:
            server.shutdown()
            serving.join()
