"""Stop strings: holds back text that may become one, and cuts the text where one begins."""

from collections.abc import Sequence


class StopStrings:
    """Passes text through until one of ``stops`` appears in it; that string is never shown.

    ``feed`` returns the text that can no longer be part of a stop string. Once ``hit`` is true, it
    returns nothing more.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.hit = False

    def feed(self, text: str) -> str:
        if self.hit:
            return ""
        if not self._stops:
            return text
        text = self._held + text
        self._held = ""
        found = [at for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            self.hit = True
            return text[: min(found)]
        held = max(_overlap(text, stop) for stop in self._stops)
        cut = len(text) - held
        self._held = text[cut:]
        return text[:cut]

    def flush(self) -> str:
        """The text that was held back, once the answer has ended without completing a stop
        string.
        """
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """The length of the longest end of ``text`` that is a beginning of ``stop``."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
