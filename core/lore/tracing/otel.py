"""Spans by OpenTelemetry's SDK, sent in the background over OTLP/HTTP.

If the collector is away, only spans are lost: they wait in a bounded queue, from which the oldest
are dropped, and one log line says so until it is back.
"""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import structlog
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler, SamplingResult
from opentelemetry.trace import (
    Link,
    SpanKind,
    Status,
    StatusCode,
    format_trace_id,
    get_current_span,
)
from opentelemetry.trace import Span as ApiSpan
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.trace.span import TraceState
from opentelemetry.util.types import Attributes

from lore.tracing import Kind, Span, Value
from lore.tracing.settings import TracingSettings

TOLD_EACH = 16
"""How many events of one name a span records one by one."""
STOP_S = 2.0
MAX_STATE_CHARS = 512
"""The longest ``tracestate`` to pass on (W3C Trace Context section 3.3.1.5)."""

log = structlog.get_logger()
_otlp = logging.getLogger("opentelemetry.exporter.lore")

_KINDS = {"internal": SpanKind.INTERNAL, "server": SpanKind.SERVER, "client": SpanKind.CLIENT}
_w3c = TraceContextTextMapPropagator()


class OtelTracer:
    def __init__(self, service: str, instance: str, exporter: SpanExporter) -> None:
        told = OTELResourceDetector().detect().attributes
        named = {"service.name": f"lore-{service}", "service.instance.id": instance}
        self._provider = TracerProvider(
            resource=Resource.create({**named, **told}), shutdown_on_exit=False
        )
        self._provider.sampler = _LinkedToo(self._provider.sampler)
        self._exporter = exporter
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("lore")

    def begin(
        self, name: str, parent: str, link: str, kind: Kind, began_ns: int, attributes: Attributes
    ) -> Span:
        context, links = _context_of(parent), _links_to(link)
        begun = self._tracer.start_span(name, context, _KINDS[kind], attributes, links, began_ns)
        return OtelSpan(begun)

    def flush(self) -> None:
        """Return when the exporter has all spans that have ended so far."""
        self._provider.force_flush()

    def stop(self) -> None:
        # The SDK would wait as long as one export may take.
        stopping = threading.Thread(target=self._provider.shutdown, daemon=True)
        stopping.start()
        stopping.join(STOP_S)
        if stopping.is_alive():
            self._exporter.shutdown()  # it stops its retries, too


class OtelSpan(Span):
    def __init__(self, span: ApiSpan) -> None:
        context = span.get_span_context()
        self._span = span
        self._events: Counter[str] = Counter()
        self.trace_id = format_trace_id(context.trace_id)
        self.sampled = context.trace_flags.sampled
        self.exemplar = {"trace_id": self.trace_id} if self.sampled else None
        self.context = f"00-{self.trace_id}-{context.span_id:016x}-{context.trace_flags & 1:02x}"
        state = context.trace_state.to_header()
        if 0 < len(state) <= MAX_STATE_CHARS:
            self.context += f" {state}"

    def event(self, name: str, /, **attributes: Value) -> None:
        if not self._span.is_recording():
            return
        self._events[name] += 1
        if self._events[name] <= TOLD_EACH:
            self._span.add_event(name, {f"lore.{key}": attributes[key] for key in attributes})

    def set(self, attributes: Mapping[str, Value], /) -> None:
        if self._span.is_recording():
            self._span.set_attributes(attributes)

    def link(self, context: str, /) -> None:
        for link in _links_to(context):
            self._span.add_link(link.context)

    def fail(self, kind: str, /) -> None:
        if self._span.is_recording():
            self._span.set_attribute("error.type", kind)
            self._span.set_status(Status(StatusCode.ERROR))

    def end(self) -> None:
        if self._span.is_recording():
            for name, count in self._events.items():
                if count > TOLD_EACH:
                    self._span.set_attribute(f"lore.{name}.count", count)
            self._span.end()


class _LinkedToo(Sampler):
    """Samples a span if one that it links to is sampled. Otherwise it would be drawn anew, and
    hardly any request would be seen together with its resumes.
    """

    def __init__(self, otherwise: Sampler) -> None:
        self._otherwise = otherwise

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        linked = any(link.context.trace_flags.sampled for link in links or ())
        sampler = ALWAYS_ON if linked else self._otherwise
        return sampler.should_sample(
            parent_context, trace_id, name, kind, attributes, links, trace_state
        )

    def get_description(self) -> str:
        return f"LinkedToo{{{self._otherwise.get_description()}}}"


class Quiet(SpanExporter):
    """Logs once that the collector does not accept spans, and once that it does again."""

    def __init__(self, exporter: SpanExporter, endpoint: str, reason: Callable[[], str]) -> None:
        self._exporter = exporter
        self._endpoint = endpoint
        self._reason = reason
        self._failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        failed = result is not SpanExportResult.SUCCESS
        if failed and not self._failing:
            log.warning("spans lost", endpoint=self._endpoint, reason=self._reason())
        elif self._failing and not failed:
            log.info("spans exported again", endpoint=self._endpoint)
        self._failing = failed
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


class Bounded(SpanExporter):
    """Bounds the time of each export. The exporter's own limit is for each read: a collector whose
    answer trickles in would occupy the only sending thread for ever. While an export that timed out
    is still running, nothing else is sent.
    """

    def __init__(self, exporter: SpanExporter, within_s: float) -> None:
        self._exporter = exporter
        self._within_s = within_s
        self._over = threading.Event()
        self._under_way: threading.Thread | None = None

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if self._under_way is not None and self._under_way.is_alive():
            return SpanExportResult.FAILURE
        result = SpanExportResult.FAILURE
        over = self._over = threading.Event()

        def work() -> None:
            nonlocal result
            try:
                result = self._exporter.export(spans)
            finally:
                over.set()

        self._under_way = threading.Thread(target=work, name="OtelExport", daemon=True)
        self._under_way.start()
        if not over.wait(self._within_s):
            _otlp.error("no whole answer within %g s", self._within_s)
            return SpanExportResult.FAILURE
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()
        self._over.set()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


class _LastWords(logging.Handler):
    """Keeps the last message of a library instead of logging it: it repeats the same again and
    again.
    """

    text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text = record.getMessage().partition("\n")[0]


def otlp_exporter(settings: TracingSettings) -> SpanExporter:
    words = _LastWords()
    for name in ("opentelemetry.exporter", "opentelemetry.sdk"):
        logger = logging.getLogger(name)
        logger.addHandler(words)
        logger.propagate = False
    bounded = Bounded(OTLPSpanExporter(), settings.timeout_s)
    return Quiet(bounded, settings.endpoint, lambda: words.text)


def _links_to(context: str) -> list[Link]:
    found = get_current_span(_context_of(context)).get_span_context()
    return [Link(found)] if found.is_valid else []


def _context_of(context: str) -> Context:
    """Parse a context. One that cannot be parsed becomes an empty one, never the current one."""
    parent, _, state = context.partition(" ")
    carrier = {"traceparent": parent, "tracestate": state} if state else {"traceparent": parent}
    return _w3c.extract(carrier, Context())
