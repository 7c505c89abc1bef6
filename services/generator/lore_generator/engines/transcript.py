"""From token ids to text: whole characters only, nothing of a stop string."""

from collections.abc import Iterable, Sequence

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from lore_generator.engines.stops import StopStrings


class Transcript:
    """The text of one answer as its tokens come.

    Feeding the tokens of a log first brings the state that the log's writer had: what
    comes next continues its text exactly.
    """

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        self._stream = DecodeStream(skip_special_tokens=True)
        self._stops = StopStrings(stops)

    @property
    def stopped(self) -> bool:
        """True once a stop string is complete."""
        return self._stops.hit

    def feed(self, token_ids: Iterable[int]) -> str:
        """The text that these tokens let out; '' while a character is incomplete."""
        texts = (self._stream.step(self._tokenizer, token) for token in token_ids)
        return "".join(self._stops.feed(text) for text in texts if text)

    def finish(self) -> str:
        """What was held back for a stop string that never came. Half a character is dropped."""
        return self._stops.flush()
