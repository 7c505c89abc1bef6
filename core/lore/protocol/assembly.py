"""Joins pieces of text into chunks: at once after a pause, else by size or delay.

The first word decides how fast an answer feels, and slow text gains nothing by waiting. For fast
text, a chunk per token would cost more than it brings. The engine hands over whole characters, so
text is never cut here.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CoalesceConfig:
    max_delay_s: float = 0.03
    """The minimum time between two chunks, in seconds, unless the second is long enough."""
    max_chars: int = 256


class Assembler:
    """Joins pieces until a chunk is due. The caller decides when to take it."""

    def __init__(self, config: CoalesceConfig) -> None:
        self.text = ""
        self.token_ids: tuple[int, ...] = ()
        self.due_s = math.inf
        """When the pending text is due; infinite while there is none, or no whole character."""
        self._config = config
        self._next_s = -math.inf
        self._since: float | None = None

    def add(self, text: str, token_ids: tuple[int, ...], now: float) -> None:
        # Most pieces find nothing pending. They are not copied.
        self.text = self.text + text if self.text else text
        self.token_ids = self.token_ids + token_ids if self.token_ids else token_ids
        if self._since is None:
            self._since = now
        if text:
            is_long = self._since >= self._next_s or len(self.text) >= self._config.max_chars
            self.due_s = self._since if is_long else self._next_s

    def take(self, now: float) -> tuple[str, tuple[int, ...]]:
        """Take everything pending, as one chunk's text and token ids."""
        text, token_ids = self.text, self.token_ids
        self.text, self.token_ids, self._since, self.due_s = "", (), None, math.inf
        if text:
            self._next_s = now + self._config.max_delay_s
        return text, token_ids
