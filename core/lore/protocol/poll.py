"""When a poll, a reader's finished response, is answered (P18).

The shell takes what there is to send as for a stream (``delivery.py``), reports it here, and
answers once ``is_due``. ``now`` is in seconds on any one clock.
"""

from lore.protocol.lifecycle import Status

MAX_WAIT_S = 30.0
"""The longest wait in seconds. Proxies give up on a response of which nothing has come for 60 s."""
MAX_BYTES = 262_144
"""The most text in one answer, in bytes; the rest comes with the next."""
GATHER_S = 0.1
"""How many seconds to gather text after the first: one poll per token would be too many."""


class Poll:
    def __init__(self, now: float, wait_s: float) -> None:
        """``wait_s``: how long the reader waits for news, at most."""
        self.deadline = now + min(wait_s, MAX_WAIT_S)
        """When the answer is due without further news."""
        self._room_bytes = MAX_BYTES
        self._has_text = False
        self.has_state = False
        """The request's state has changed."""

    @property
    def room_bytes(self) -> int:
        """How many more bytes of text may be taken; 0 when the answer is full."""
        return max(0, self._room_bytes)

    def on_text(self, size_bytes: int, now: float) -> None:
        """``size_bytes`` of text were added to the answer."""
        if not size_bytes:
            return
        if not self._has_text:
            self.deadline = min(self.deadline, now + GATHER_S)
        self._has_text = True
        self._room_bytes -= size_bytes

    def on_state(self) -> None:
        self.has_state = True

    def is_due(self, now: float, status: Status) -> bool:
        """Whether to answer when there is nothing to add at the moment. A closed window waits for
        the reader's ack, so waiting would bring nothing (P18.4).
        """
        closed = self._has_text and status is Status.PAUSED
        return self.has_state or closed or now >= self.deadline
