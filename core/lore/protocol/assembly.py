"""Pieces of text into chunks: at once after a pause, else joined by size or delay.

A reader judges by the first word, and slow text gains nothing by waiting; of fast text a chunk
per token would cost more than it brings. Text comes from the engine in whole characters and is
never cut here.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CoalesceConfig:
    max_delay_s: float = 0.03
    """Between two chunks, at least, unless the second is long enough."""
    max_chars: int = 256


class Assembler:
    """Joins pieces until they are due. The caller decides when to take them."""

    def __init__(self, config: CoalesceConfig) -> None:
        self._config = config
        self._next_s = float("-inf")
        self._text: list[str] = []
        self._chars = 0
        self._token_ids: list[int] = []
        self._since: float | None = None

    def add(self, text: str, token_ids: tuple[int, ...], now: float) -> None:
        if text:
            self._text.append(text)
            self._chars += len(text)
        self._token_ids.extend(token_ids)
        if self._since is None:
            self._since = now

    @property
    def pending(self) -> bool:
        return bool(self._text or self._token_ids)

    def deadline(self) -> float | None:
        """When the pending text is due, or None: nothing pends, or no whole character yet."""
        if self._since is None or not self._text:
            return None
        if self._since >= self._next_s or self._chars >= self._config.max_chars:
            return self._since
        return self._next_s

    def take(self, now: float) -> tuple[str, tuple[int, ...]]:
        """Everything pending, as one chunk's text and token ids."""
        text, token_ids = "".join(self._text), tuple(self._token_ids)
        self._text.clear()
        self._token_ids.clear()
        self._chars, self._since = 0, None
        if text:
            self._next_s = now + self._config.max_delay_s
        return text, token_ids
