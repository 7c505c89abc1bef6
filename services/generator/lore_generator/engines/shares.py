"""Which prompt is prefilled in a step, and how much: long prompts take half of the time at most.

A prompt that one piece cannot hold is long. While others have something to do, each step with a
piece of a long prompt is followed by steps without, until they have taken as long. So whoever is
decoded beside long prompts is half as fast at worst, and so are long prompts beside others: nobody
starves. A question that comes while a long prompt is read is owed the time of the last piece, and
is read first. Long prompts take turns: a piece of the one that came first, then one of the one that
has the least left.

A piece takes about ``PIECE_S``, by what the last one took: it is what a question that comes
meanwhile waits for. No I/O, no clock.
"""

from collections.abc import Mapping
from dataclasses import dataclass

PIECE_S = 1.0
FIRST_TOKENS, LEAST_TOKENS = 512, 128
MOST_GROWTH = 2.0


@dataclass(slots=True)
class Shares:
    step_tokens: int
    """The most that a step takes."""
    piece_tokens: int
    """The most of a long prompt that one takes."""
    owed: float = 0.0
    """What the others are owed, as costs are counted."""
    _pieces: int = 0

    def long(self, remaining: Mapping[str, int]) -> list[str]:
        """Of these prompts, by how much of each is to be read, the long ones, in order."""
        return [key for key, tokens in remaining.items() if tokens > self.piece_tokens]

    def choose(self, remaining: Mapping[str, int], *, others: bool) -> str | None:
        """The long prompt that is read in this step; None when all of them stand back.

        ``remaining`` in the order of coming; ``others``: somebody else has something to do.
        """
        long = self.long(remaining)
        if not long or (others and self.owed > 0):
            return None
        return min(long, key=remaining.__getitem__) if self._pieces % 2 else long[0]

    def on_step(self, cost: float, *, piece: bool) -> None:
        """``piece``: a long prompt took part."""
        if piece:
            self._pieces += 1
            self.owed = cost
        else:
            self.owed = max(0.0, self.owed - cost)

    def fit(self, tokens: int, took_s: float) -> None:
        """A step with a piece, of so many tokens, took so long: the more was read before, the
        longer."""
        wanted = min(tokens * PIECE_S / max(took_s, 1e-6), self.piece_tokens * MOST_GROWTH)
        least = min(LEAST_TOKENS, self.step_tokens)
        self.piece_tokens = max(least, min(round(wanted), self.step_tokens))
