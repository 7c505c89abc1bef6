"""When a reader leaves its stream for polls, because something on the way holds it back (P18).

An edge sends the beginning of a stream at once, and then something at least every half of the
silence that it names (E5). If that does not arrive, the reader polls beside the stream. Text that
the poll brings and the stream still lacks a moment later is held back on the way.
"""

OPENING_S = 1.0
OVERDUE = 2 / 3
"""Poll after this share of the silence that the edge named: the edge promised something within
half.
"""
MAX_SILENCE_S = 60.0
"""The silence to assume, in seconds, of an edge that names none."""
CATCH_UP_S = 0.25
"""How many seconds the stream gets to bring what a poll has brought."""
WAIT_S = 5.0
"""How many seconds each poll waits: short enough to notice an edge that stands still."""
STREAM_AGAIN_S = 30.0
MAX_STREAM_AGAIN_S = 600.0


class Fallback:
    """Times are seconds on any one clock."""

    def __init__(self) -> None:
        self.is_told = False
        """Whether the stream has told the state of its request."""
        self.heard_at = 0.0
        self._silence_s = MAX_SILENCE_S
        self._again_s = STREAM_AGAIN_S
        self._stream_at = 0.0

    def on_asked(self, now: float) -> None:
        """A stream was requested."""
        self.is_told = False
        self.heard_at = now

    def on_heard(self, now: float) -> None:
        """Something of it arrived, or the reader has just begun to listen again."""
        self.heard_at = now

    def on_told(self, silence_s: float) -> None:
        """The stream told the state of its request. ``silence_s`` is 0 if it names no silence."""
        self.is_told = True
        if silence_s > 0:
            self._silence_s = silence_s

    @property
    def patience_s(self) -> float:
        """How long the stream may be silent before the reader polls beside it."""
        return max(OPENING_S, OVERDUE * self._silence_s) if self.is_told else OPENING_S

    @property
    def ask_at(self) -> float:
        """When to poll beside the stream, unless something arrives before."""
        return self.heard_at + self.patience_s

    def is_ahead(self, seq: int, *, ended: bool, position: int) -> bool:
        """Whether a poll brought more than the stream, which is at ``position``."""
        return ended or seq > position or not self.is_told

    def on_held_back(self, now: float) -> None:
        """The stream is held back: poll for a while."""
        self._stream_at = now + self._again_s
        self._again_s = min(2 * self._again_s, MAX_STREAM_AGAIN_S)

    def is_polling(self, now: float) -> bool:
        return now < self._stream_at
