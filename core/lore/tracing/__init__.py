"""Traces of requests, exported with OpenTelemetry; off until a collector is named.

A request's trace goes through processes that never talk to each other, so its context is
kept with the request in the store (``View.trace``): whoever works on the request next goes
on in the same trace, and whoever reads it links to it. A context is a string, the W3C's
``traceparent`` and after a blank its ``tracestate``; '' is none.

While tracing is off nothing of OpenTelemetry is imported, and every span is ``NOTHING``.
No span ever holds text of a question or an answer, an address's query, a key or a name.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Literal, Protocol, Self

from lore.settings import load
from lore.tracing.settings import TracingSettings

Value = str | bool | int | float | Sequence[str]
Kind = Literal["internal", "server", "client"]


class Span:
    """A piece of work in a trace, and as it is the one that nobody hears of.

    All of it on one thread. After ``end`` nothing changes it any more.
    """

    context = ""
    """What those get who go on in this trace."""
    trace_id = ""
    sampled = False
    """Whether the collector gets it."""
    exemplar: Mapping[str, str] | None = None
    """Names the trace beside a measurement, when the collector gets it."""

    def event(self, name: str, /, **attributes: Value) -> None:
        """Something happened at this moment. Of each name the first few are told one by one, and
        of the others how many there were."""

    def set(self, attributes: Mapping[str, Value], /) -> None: ...

    def link(self, context: str, /) -> None:
        """Name a trace that this is about, or that it goes on from."""

    def fail(self, kind: str, /) -> None:
        """It came to nothing; ``kind`` is one of few words, and no message."""

    def end(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.fail(kind.__name__)
        self.end()


NOTHING = Span()


class Tracer(Protocol):
    def begin(
        self,
        name: str,
        *,
        parent: str,
        link: str,
        kind: Kind,
        began_ns: int,
        attributes: Mapping[str, Value],
    ) -> Span: ...

    def stop(self) -> None: ...


_tracer: Tracer | None = None


def start(service: str, instance: str) -> None:
    """Tell a collector, if the environment names one, of what this process does.

    Exits with status 2 when the environment says what cannot be.
    """
    settings = load(TracingSettings)
    if settings.is_on:
        from lore.tracing.otel import OtelTracer, otlp_exporter

        use(OtelTracer(service, instance, otlp_exporter(settings)))


def use(tracer: Tracer | None) -> None:
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
    """A span of the trace of ``parent``, or of a new one. ``began_ns`` (Unix time) is now if 0."""
    if _tracer is None:
        return NOTHING
    return _tracer.begin(
        name,
        parent=parent,
        link=link,
        kind=kind,
        began_ns=began_ns or time.time_ns(),
        attributes=attributes or {},
    )


def call(function: str, parent: Span, *, began_ns: int = 0) -> Span:
    """The span of a call of a function of the store. Few calls have one: those of which a
    request has a fixed number."""
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
    """'' for none."""
    return context.split("-", 2)[1] if context else ""
