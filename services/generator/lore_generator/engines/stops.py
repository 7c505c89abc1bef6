"""Stop strings: holds back text that may become one, and cuts the text where one begins."""

from collections.abc import Sequence

from lore.parts.markers import held


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
        cut = len(text) - max(held(text, stop) for stop in self._stops)
        self._held = text[cut:]
        return text[:cut]

    def flush(self) -> str:
        """The text that was held back, once the answer has ended without completing a stop
        string.
        """
        held, self._held = self._held, ""
        return held
