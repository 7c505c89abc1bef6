"""How long a reader bears that its edge says nothing (PROTOCOL.md, Server-sent events)."""

MAX_DOUBLINGS = 3


class Silence:
    """How long an edge may say nothing, not even that it is there.

    Each silence in a row doubles the patience, up to eightfold: a network that stands still for
    longer than an edge promises would else never be given the time to go on.
    """

    def __init__(self, limit_s: float) -> None:
        """``limit_s`` counts until an edge has told another."""
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
