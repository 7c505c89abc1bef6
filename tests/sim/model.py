"""A model that samples: what it says depends on who says it.

A continuation by another owner differs from the first one's from the place where it took
over, as it would with any sampling engine. So a splice of two continuations, which a
deterministic model would hide, is a wrong text here.
"""

from lore.protocol.chunk import Chunk


class Decoding:
    """One request in one engine, from where its log ends."""

    def __init__(self, epoch: int, history: list[Chunk], answer_tokens: int, fails: bool) -> None:
        self._voice = f"{epoch % 0xFFF:x}"
        self.generated = history[-1].tokens if history else 0
        self._length = max(answer_tokens + epoch % 7, self.generated)
        self._fails = fails

    def step(self, tokens: int, limit: int | None) -> tuple[str, tuple[int, ...]]:
        """Decode at most ``tokens``, within the credit: text and token ids."""
        first = self.generated
        end = min(first + tokens, self._length)
        if limit is not None:
            end = min(end, limit)
        end = max(end, first)
        self.generated = end
        # Every fifth token brings no text: it is a part of a character, or of a stop string.
        texts = [f"{i}.{self._voice} " if i % 5 != 3 else "" for i in range(first, end)]
        return "".join(texts), tuple(range(first, end))

    @property
    def finish_reason(self) -> str | None:
        if self.generated < self._length:
            return None
        return "error" if self._fails else "stop"
