"""Logs: one JSON object a line on stderr, with the service and, where there is one, the request.

No line holds a prompt, an answer or a secret, at any level. What the levels mean stands in
``docs/traces-and-logs.md``.
"""

import logging
import sys

import structlog

from lore.protocol.messages import View
from lore.tracing import trace_id_of


def of(view: View) -> dict[str, str]:
    """What a line about a request says first: which one, and in which trace."""
    named = {"request_id": view.request_id}
    return named | {"trace_id": trace_id_of(view.trace)} if view.trace else named


def configure_logging(service: str, level: str = "info") -> None:
    """Set up structlog, and send the libraries' own warnings the same way."""
    number = logging.getLevelNamesMapping()[level.upper()]
    shared = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            *shared,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logging.basicConfig(level=max(number, logging.WARNING), handlers=[handler], force=True)
