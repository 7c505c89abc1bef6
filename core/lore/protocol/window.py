"""The window: how far decoding may run ahead of the reader (protocol P5 to P7).

Policy. The window is counted in tokens and reaches the engine as credit: an absolute number of
generated tokens that only grows (QUIC's MAX_STREAM_DATA, RFC 9000 section 4.1). So it holds
exactly, however late anyone hears of a token.

It starts small, because most of what a reader never reads should never be decoded. When generation
stalled on it and an ack then comes while acks are flowing, the window held a healthy reader back,
so it doubles, up to a maximum. When the ack comes after a silence, the reader was away, and the
window starts small again.

A closed window opens once half of it is free (RFC 9293 section 3.8.6.2.1, the silly window): a slow
reader costs one park per half window, not one per token.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WindowConfig:
    initial_tokens: int = 32
    maximum_tokens: int = 1024
    silence_s: float = 5.0
    """After a stall longer than this, in seconds, the reader counts as absent, and the window does
    not grow.
    """

    @classmethod
    def fixed(cls, tokens: int) -> "WindowConfig":
        return cls(initial_tokens=tokens, maximum_tokens=tokens)


class Window:
    """One request's window, kept by its owner. Sizes and counts are in tokens.

    ``size`` 0 stands for a window that does not bind (ack kind ``none``).
    """

    def __init__(
        self, config: WindowConfig, *, size: int, acked_tokens: int = 0, generated_tokens: int = 0
    ) -> None:
        self._config = config
        self.size = size
        self.acked_tokens = acked_tokens
        # A window that was closed at a takeover stays closed until an ack, as it did for the owner
        # before.
        self.granted = max(acked_tokens + size, generated_tokens)
        """Tokens that may be generated in all, if the window binds."""
        self._stalled_since: float | None = None

    @property
    def limit(self) -> int | None:
        """The credit: tokens that may be generated in all, or None when nothing binds."""
        return self.granted if self.size else None

    def is_closed(self, generated_tokens: int) -> bool:
        return self.size > 0 and generated_tokens >= self.granted

    def reopen_tokens(self, generated_tokens: int) -> int:
        """The acked tokens at which a closed window opens again; 0 while it is open.

        After a stall, the first ack doubles a window below its maximum, which frees half of it.
        """
        if not self.is_closed(generated_tokens):
            return 0
        size = self.size if self._stalled_since is None else self._doubled()
        reopen_tokens = max(generated_tokens - size + max(1, size // 2), self.acked_tokens + 1)
        assert reopen_tokens <= generated_tokens, "P6.4: an ack of everything opens the window"
        return reopen_tokens

    def on_closed(self, now: float) -> None:
        """The engine used up its credit at ``now``."""
        if self._stalled_since is None:
            self._stalled_since = now

    def on_ack(self, acked_tokens: int, generated_tokens: int, now: float) -> None:
        """Move the window. Late and duplicate acks change nothing (P9.1)."""
        if acked_tokens <= self.acked_tokens:
            return
        opens = acked_tokens >= self.reopen_tokens(generated_tokens)
        self.acked_tokens = acked_tokens
        if not opens:
            return
        if self._stalled_since is not None:
            self._resize(now - self._stalled_since)
            self._stalled_since = None
        self.granted = max(self.granted, acked_tokens + self.size)

    def _resize(self, stalled_s: float) -> None:
        if stalled_s <= self._config.silence_s:
            self.size = self._doubled()
        else:
            self.size = min(self.size, self._config.initial_tokens)

    def _doubled(self) -> int:
        return min(self.size * 2, max(self.size, self._config.maximum_tokens))
