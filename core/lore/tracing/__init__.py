"""Traces of requests, exported with OpenTelemetry; off unless a collector is configured.

A request's trace passes through processes that never talk to each other. So its context is kept
with the request in the store (``View.trace``): the next process that works on the request continues
the trace, and readers link to it. A context is a string: the W3C's ``traceparent`` and, after a
blank, its ``tracestate``; '' means none.

While tracing is off, nothing of OpenTelemetry is imported, and every span is ``NOTHING``. No span
contains text of a question or an answer, the query of an address, a key or a name.
"""

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, Self

from lore.settings import load
from lore.tracing.settings import TracingSettings

if TYPE_CHECKING:
    from lore.tracing.otel import OtelTracer

Value = str | bool | int | float | Sequence[str]
Kind = Literal["internal", "server", "client"]


class Span:
    """A span: a piece of work in a trace. This base class records nothing.

    Use a span in one thread only. After ``end``, nothing changes it any more.
    """

    context = ""
    """The context for those who continue this trace."""
    trace_id = ""
    sampled = False
    """Whether the collector gets it."""
    exemplar: Mapping[str, str] | None = None
    """Names the trace in a metric's exemplar if the collector gets it, else None."""

    def event(self, name: str, /, **attributes: Value) -> None:
        """Record that something happened now. Of each name, the first few are recorded one by one,
        the others as a number.
        """

    def set(self, attributes: Mapping[str, Value], /) -> None: ...

    def link(self, context: str, /) -> None:
        """Link to a trace that this one is about, or continues."""

    def fail(self, kind: str, /) -> None:
        """Mark the span as failed; ``kind`` is one of few words, and no message."""

    def end(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.fail(kind.__name__)
        self.end()


NOTHING = Span()


_tracer: "OtelTracer | None" = None


def start(service: str, instance: str) -> None:
    """Export the traces of this process if the environment names a collector.

    Exits with status 2 when a setting is invalid.
    """
    settings = load(TracingSettings)
    if settings.is_on:
        from lore.tracing.otel import OtelTracer, otlp_exporter

        use(OtelTracer(service, instance, otlp_exporter(settings)))


def use(tracer: "OtelTracer | None") -> None:
    global _tracer
    _tracer = tracer


def stop() -> None:
    """Send what is left, for a moment at most. Blocks."""
    if _tracer is not None:
        _tracer.stop()
    use(None)


def is_on() -> bool:
    return _tracer is not None


def begin(
    name: str,
    *,
    parent: str = "",
    link: str = "",
    kind: Kind = "internal",
    began_ns: int = 0,
    attributes: Mapping[str, Value] | None = None,
) -> Span:
    """Begin a span in the trace of ``parent``, or in a new one. ``began_ns`` is Unix time in ns; 0
    means now.
    """
    if _tracer is None:
        return NOTHING
    began_ns = began_ns or time.time_ns()
    return _tracer.begin(name, parent, link, kind, began_ns, attributes or {})


def call(function: str, parent: Span, *, began_ns: int = 0) -> Span:
    """Begin a span for a call of a store function. Only calls that a request makes a fixed number
    of times have one.
    """
    if not parent.sampled:
        return NOTHING
    return begin(
        f"FCALL {function}",
        parent=parent.context,
        kind="client",
        began_ns=began_ns,
        attributes={
            "db.system.name": "valkey",
            "db.operation.name": "FCALL",
            "db.stored_procedure.name": function,
        },
    )


def trace_id_of(context: str) -> str:
    """The trace id in a context; '' if it is empty."""
    return context.split("-", 2)[1] if context else ""
