"""Wait for a call or for a time, cheaply: streams wait some twenty times a second."""

import asyncio


class Waker:
    """One waiter. A wake-up before the wait is not lost; a spurious one is harmless."""

    __slots__ = ("_future", "_loop", "_timer", "_woken")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[None] | None = None
        self._woken = False
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_waiting(self) -> bool:
        """Somebody waits, and nothing has woken them yet."""
        return self._future is not None and not self._woken

    def wake(self) -> None:
        self._woken = True
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    async def wait(self, until: float) -> None:
        """Return after a wake-up, or at ``until`` on the loop's clock, or a little early."""
        if not self._woken:
            self.arm(until)
            self._future = self._loop.create_future()
            try:
                await self._future
            finally:
                self._future = None
        self._woken = False

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def arm(self, until: float) -> None:
        """Wake the waiter at ``until``, or a little early."""
        # A timer that rings too early costs one turn of the waiter's loop, less than
        # setting a new one for each event.
        if self._timer is not None:
            if self._timer.when() <= until:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(until, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self.wake()
