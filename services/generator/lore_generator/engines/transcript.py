"""From token ids to text: whole characters, and no part of a stop string."""

from collections.abc import Collection, Iterable, Sequence

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from lore_generator.engines.stops import StopStrings


class Transcript:
    """The text of one answer as its tokens arrive.

    Feeding the tokens of a log first restores the state of the log's writer: the next text
    continues its text exactly.
    """

    def __init__(
        self, tokenizer: Tokenizer, stops: Sequence[str], shown: Collection[str] = ()
    ) -> None:
        """``shown``: special tokens that are text all the same, as they are called."""
        self._tokenizer = tokenizer
        self._shown = _special(tokenizer, shown) if shown else {}
        self._stream = DecodeStream(skip_special_tokens=True)
        self._anchor: list[int] = []
        self._stops = StopStrings(stops)

    @property
    def stopped(self) -> bool:
        """True once a stop string is complete."""
        return self._stops.hit

    def feed(self, token_ids: Iterable[int]) -> str:
        """The text that these tokens complete; '' while a character is incomplete."""
        texts = (self._step(token) for token in token_ids)
        return "".join(self._stops.feed(text) for text in texts if text)

    def _step(self, token: int) -> str | None:
        """Take a token. Text that was returned stays, whatever bytes follow.

        A tokenizer with byte fallback decodes a run of bytes as a whole. If it is not UTF-8, the
        characters before it become U+FFFD, too, and the library raises. Then decoding begins anew
        with this token, behind the last whole piece: at the very beginning, a blank would be
        dropped.
        """
        if token in self._shown:
            return self._shown[token]
        try:
            text = self._stream.step(self._tokenizer, token)
        except Exception:  # noqa: BLE001  # the library raises no other
            self._stream = DecodeStream(ids=self._anchor, skip_special_tokens=True)
            text = self._stream.step(self._tokenizer, token)
        if text and not (self._tokenizer.id_to_token(token) or "").startswith("<0x"):
            self._anchor = [token]
        return text

    def finish(self) -> str:
        """The text held back for a stop string that never came. An incomplete character is
        dropped.
        """
        return self._stops.flush()


def _special(tokenizer: Tokenizer, names: Collection[str]) -> dict[int, str]:
    """Those of these names that are special tokens, by their ids."""
    added = tokenizer.get_added_tokens_decoder().items()
    return {token: one.content for token, one in added if one.special and one.content in names}
