"""Tasks that a service cannot do without, such as those that hold its connections to the store.

A task that raises is logged and started again, after growing pauses. ``live`` is the result of
``/livez``. It fails while a task fails again and again, when a task has ended that nobody stopped,
and when the event loop stands still. Whoever runs the process then replaces it.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

log = structlog.get_logger()

FIRST_PAUSE_S, LAST_PAUSE_S = 0.05, 2.0
STEADY_S = 5.0
"""A task that has run for so many seconds counts as recovered."""
MAX_FAILURES = 5
"""So many failures in a row, each within STEADY_S, make the process unhealthy."""
STUCK_S = 60.0


class Keeper:
    """Runs ``work`` until it is cancelled by ``cancel`` or ``stop``."""

    def __init__(
        self,
        name: str,
        work: Callable[[], Coroutine[Any, Any, None]],
        tasks: asyncio.TaskGroup | None = None,
    ) -> None:
        self.name = name
        self._work = work
        self._failures = 0
        self._began_s = time.monotonic()
        self.task = (tasks or asyncio).create_task(self._run(), name=name)
        _keepers.add(self)

    def cancel(self) -> None:
        """Stop it, because nobody needs it any more."""
        _keepers.discard(self)
        self.task.cancel()

    async def stop(self) -> None:
        """Stop it, and return when it has ended."""
        self.cancel()
        await asyncio.wait([self.task])

    def problem(self) -> str | None:
        """Why it is unhealthy, or None. May be called from another thread."""
        if self.task.get_loop().is_closed():
            return None  # the service stopped it
        if self.task.done():
            return f"the task '{self.name}' is gone"
        if self._failures >= MAX_FAILURES and not self._is_steady():
            return f"the task '{self.name}' fails again and again"
        return None

    def _is_steady(self) -> bool:
        return time.monotonic() - self._began_s > STEADY_S

    async def _run(self) -> None:
        while True:
            try:
                await self._work()
                log.error("task ended and restarted", task=self.name)
            except (Exception, asyncio.CancelledError):
                if self.task.cancelling():
                    raise
                log.exception("task failed and restarted", task=self.name)
            self._failures = 1 if self._is_steady() else self._failures + 1
            await asyncio.sleep(min(FIRST_PAUSE_S * 2 ** (self._failures - 1), LAST_PAUSE_S))
            self._began_s = time.monotonic()


_keepers = set[Keeper]()
_beats = dict[asyncio.AbstractEventLoop, float]()


def beat() -> None:
    """Record that the event loop runs."""
    _beats[asyncio.get_running_loop()] = time.monotonic()


def live() -> str | None:
    """Why this process should be replaced, or None. May be called from another thread."""
    for loop, beat_s in tuple(_beats.items()):
        silent_s = time.monotonic() - beat_s
        if silent_s > STUCK_S and not loop.is_closed():
            return f"the event loop has stood still for {silent_s:.0f} s"
    problems = (keeper.problem() for keeper in tuple(_keepers))
    return next(filter(None, problems), None)
