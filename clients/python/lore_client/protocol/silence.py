"""How long a reader waits for a silent edge (E6)."""

MAX_DOUBLINGS = 3


class Silence:
    """How long an edge may send nothing, not even a heartbeat (E6).

    Each silence in a row doubles that time, eightfold at most. Otherwise a network that stands
    still for longer than the edge promises would never get the time to recover.
    """

    def __init__(self, limit_s: float) -> None:
        """``limit_s`` applies until an edge names another limit."""
        self._limit_s = limit_s
        self._in_a_row = 0

    @property
    def limit_s(self) -> float:
        return self._limit_s * 2 ** min(self._in_a_row, MAX_DOUBLINGS)

    def on_told(self, limit_s: float) -> None:
        if limit_s > 0:
            self._limit_s = limit_s

    def on_silent(self) -> None:
        self._in_a_row += 1

    def on_text(self) -> None:
        self._in_a_row = 0
