"""Waits cheaply for a call or a time: a stream waits some twenty times a second."""

import asyncio
from collections.abc import Callable


class Alarm:
    """Calls a function at a time that may be moved. A call that comes early is harmless, and
    cheaper than a new timer for each move. The due time is kept here because uvloop's timers do not
    expose it.
    """

    __slots__ = ("_call", "_due", "_loop", "_timer")

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call
        self._loop = asyncio.get_running_loop()
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def set(self, until: float | None) -> None:
        """Call at ``until`` on the loop's clock, or a little early. With None, a call may still
        come.
        """
        if until is None:
            return
        if self._timer is not None:
            if self._due <= until:
                return
            self._timer.cancel()
        self._due = until
        self._timer = self._loop.call_at(until, self._ring)

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        self._timer = None
        self._call()


class Waker(Alarm):
    """Wakes one waiter. A wake-up before the wait is not lost; a spurious one is harmless."""

    __slots__ = ("_future", "_woken", "is_waiting")

    def __init__(self) -> None:
        super().__init__(self.wake)
        self._future: asyncio.Future[None] | None = None
        self._woken = False
        self.is_waiting = False
        """Whether somebody waits, and nothing has woken them yet."""

    def ring(self, call: Callable[[], None]) -> None:
        """Call this at the set time, instead of waking the waiter."""
        self._call = call

    def wake(self) -> None:
        self._woken, self.is_waiting = True, False
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    async def wait(self, until: float | None = None) -> None:
        """Return after a wake-up, or at ``until`` on the loop's clock, or a little early."""
        if not self._woken:
            self.set(until)
            self._future, self.is_waiting = self._loop.create_future(), True
            try:
                await self._future
            finally:
                self._future, self.is_waiting = None, False
        self._woken = False
