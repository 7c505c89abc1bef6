"""Distinguishes an engine that hangs from one that is idle."""


class Watchdog:
    """An engine with work hangs when its count of steps stands still for ``timeout_s`` seconds."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._steps = -1
        self._since_s = 0.0

    def hangs(self, *, busy: bool, steps: int, now: float) -> bool:
        """``busy``: some request has credit; ``now``: seconds on any steady clock."""
        if not busy or steps != self._steps:
            self._steps, self._since_s = steps, now
        return now - self._since_s >= self._timeout_s
