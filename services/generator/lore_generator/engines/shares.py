"""Which prompt is prefilled in a step, and how much. Long prompts take at most half of the time.

A prompt that does not fit into one piece is long. While other requests have work, each step with a
piece of a long prompt is followed by steps without one, until these have taken the same time. So
beside long prompts decoding is at worst half as fast, and so are long prompts beside others: nobody
starves. A question that arrives while a long prompt is read is owed the time of the last piece, and
is read first. Long prompts take turns: a piece of the one that came first, then one of the one with
the least left.

A piece takes about ``PIECE_S`` seconds, estimated from the last one: that is how long a new
question waits. No I/O, no clock.
"""

from collections.abc import Mapping
from dataclasses import dataclass

PIECE_S = 1.0
FIRST_TOKENS, LEAST_TOKENS = 512, 128
MOST_GROWTH = 2.0


@dataclass(slots=True)
class Shares:
    step_tokens: int
    """The most tokens of a step."""
    piece_tokens: int
    """The most tokens of a long prompt in a step."""
    owed: float = 0.0
    """What the other requests are owed, in the unit of costs."""
    _pieces: int = 0

    def long(self, remaining: Mapping[str, int]) -> list[str]:
        """The long prompts, in order. ``remaining`` has the number of unread tokens of each
        prompt.
        """
        return [key for key, tokens in remaining.items() if tokens > self.piece_tokens]

    def choose(self, remaining: Mapping[str, int], *, others: bool) -> str | None:
        """The long prompt for this step; None when all of them must wait.

        ``remaining`` is in the order of arrival. ``others``: other requests have work.
        """
        long = self.long(remaining)
        if not long or (others and self.owed > 0):
            return None
        return min(long, key=remaining.__getitem__) if self._pieces % 2 else long[0]

    def on_step(self, cost: float, *, piece: bool) -> None:
        """A step took place. ``piece``: a long prompt took part."""
        if piece:
            self._pieces += 1
            self.owed = cost
        else:
            self.owed = max(0.0, self.owed - cost)

    def fit(self, tokens: int, took_s: float) -> None:
        """A step with a piece of so many tokens took ``took_s`` seconds. The more was read before,
        the longer it takes.
        """
        wanted = min(tokens * PIECE_S / max(took_s, 1e-6), self.piece_tokens * MOST_GROWTH)
        least = min(LEAST_TOKENS, self.step_tokens)
        self.piece_tokens = max(least, min(round(wanted), self.step_tokens))
