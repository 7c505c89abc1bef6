"""The numbers of a response's events: each names the log that it counts in (O6, O7, P4).

The SDKs come back with a number and nothing else. So the events of a request's first log count from
0, and those of a later log count on from 100,000 for each second between the request's creation and
that log's beginning. A number of a log that a store has lost is then none of another one.
"""

import functools
from typing import NamedTuple

from lore.protocol.fork import logs
from lore.store.base import View

STRIDE = 100_000
"""More events than an answer has, and few enough that most clients' 32 bits hold six hours."""


class NumberedLog(NamedTuple):
    name: str
    first: int
    """The first chunk of the present log that was written in this one."""
    base: int
    """What its numbers count on from."""


def base(view: View, seq: int) -> int:
    """Of the log in which chunk ``seq`` of the present one was written."""
    if not view.forks:  # as nearly always
        return 0
    return next(log.base for log in reversed(_logs(view)) if log.first <= seq)


def log_of(view: View, number: int) -> NumberedLog:
    """The log that the number counts in, or one before that has not so many events."""
    return next(log for log in reversed(_logs(view)) if log.base <= number)


def _logs(view: View) -> tuple[NumberedLog, ...]:
    return _with_bases(view.created_ms, view.log_id, view.forks)


@functools.lru_cache(maxsize=256)
def _with_bases(created_ms: int, log_id: str, forks: str) -> tuple[NumberedLog, ...]:
    found: list[NumberedLog] = []
    for name, first in logs(log_id, forks=forks):
        seconds = (int(name, 16) - created_ms) // 1000
        least = found[-1].base + STRIDE if found else 0
        found.append(NumberedLog(name, first, max(least, STRIDE * seconds if found else 0)))
    return tuple(found)
