"""What each engine can be told. Imports nothing heavy, so that settings can fill it in."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SyntheticOptions:
    """How the synthetic engine behaves."""

    rate_tokens_per_s: float = 20.0
    """Of each stream, however many there are; ``math.inf`` for as fast as it goes."""
    length_tokens: int | None = None
    """How long answers are; unset, 60 to 299 tokens, depending on the question."""
    step_s: float = 0.01
    """Streams whose next token falls into one step move together, in one sink call."""
    slots: int = 2048
    context_tokens: int = 32_768

    def __post_init__(self) -> None:
        if self.rate_tokens_per_s <= 0:
            raise ValueError("rate_tokens_per_s must be above 0")
        if self.length_tokens is not None and self.length_tokens < 1:
            raise ValueError("length_tokens must be at least 1")
