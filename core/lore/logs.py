"""Logs: one JSON object a line on stderr, with the service and, if there is one, the request.

No line contains a prompt, an answer or a secret, at any level. ``docs/traces-and-logs.md`` explains
the levels. Logging never raises: a line that cannot be made or written is counted (``stderr.py``).
"""

import functools
import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TextIO, cast

import structlog

from lore import stderr
from lore.metrics import LOG_LINES_LOST
from lore.protocol.messages import View
from lore.tracing import trace_id_of

_METHODS = ("debug", "info", "warning", "error", "critical", "exception", "log")


def of(view: View) -> dict[str, str]:
    """The fields that a line about a request begins with: its id and its trace."""
    named = {"request_id": view.request_id}
    return named | {"trace_id": trace_id_of(view.trace)} if view.trace else named


def configure_logging(service: str, level: str = "info") -> None:
    """Set up structlog, and send the libraries' own warnings the same way."""
    number = logging.getLevelNamesMapping()[level.upper()]
    stream = stderr.stream()
    stream.on_lost = LOG_LINES_LOST.inc
    stream.notice = functools.partial(_line, service, "warning", "log lines lost", "lost")
    shared = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendering: list[Any] = [
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(),
    ]
    structlog.configure(
        processors=[*shared, *rendering],
        wrapper_class=_never_raising(service, structlog.make_filtering_bound_logger(number)),
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", stream)),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
    handler = _Handler(service)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *rendering,
            ],
        )
    )
    logging.basicConfig(level=max(number, logging.WARNING), handlers=[handler], force=True)


class _Handler(logging.StreamHandler[stderr.Stderr]):
    """Writes the lines of libraries."""

    def __init__(self, service: str) -> None:
        super().__init__(stderr.stream())
        self._service = service

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Report a line that could not be made. The standard library's own report would contain the
        line's arguments, and would not be JSON.
        """
        _lose(self._service, record.name)


def _never_raising(service: str, kind: type[Any]) -> type[Any]:
    def guarded(method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def call(self: Any, event: Any = None, /, *args: Any, **values: Any) -> None:
            try:
                method(self, event, *args, **values)
            except Exception:  # noqa: BLE001 - a caller that logs must not fail
                _lose(service, event if isinstance(event, str) else type(event).__name__)

        return call

    methods = {name: getattr(kind, name) for name in _METHODS}
    nothing: Any = structlog.make_filtering_bound_logger(logging.CRITICAL).debug
    heard = {name: guarded(one) for name, one in methods.items() if one is not nothing}
    return type("Logger", (kind,), heard)


def _lose(service: str, of_what: str) -> None:
    """Count a line that could not be made. Log where it came from, and none of its values."""
    stream = stderr.stream()
    stream.lose()
    stream.write(_line(service, "error", "log line not made", "of", of_what))


def _line(service: str, level: str, event: str, key: str, value: str | int) -> str:
    told = {"event": event, key: value, "service": service, "level": level}
    return json.dumps(told | {"timestamp": datetime.now(UTC).isoformat()}) + "\n"
