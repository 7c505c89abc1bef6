"""The twin's account of one client: admission and limits (P17).

Three things are counted: the requests that are not known to have ended, the requests of the last
minute, and the tokens that the latter may use, or have used once they ended. A minute is the last
60 s at every moment, so a limit holds in any 60 s.
"""

from dataclasses import dataclass, field

from lore.store.base import Admission, Limits

MAX_AHEAD_MS = 3_600_000
"""A client's requests stand at most this far behind the others in the queue."""
COUNTED_MS = 86_400_000
"""An admission whose end nobody has reported counts as over after this time."""
MINUTE_MS = 60_000
LISTED = 64
"""How many of a client's requests a refusal names, so that the caller can check whether they
ended.
"""
LOOKED_AT = 1000
"""How many admissions are searched for the time at which there is room for the tokens wanted."""


@dataclass(slots=True)
class Account:
    open_ms: dict[str, int] = field(default_factory=dict[str, int])
    """When each request was admitted that is not known to have ended."""
    minute_ms: dict[str, int] = field(default_factory=dict[str, int])
    """When each request of the last minute was admitted."""
    tokens: dict[str, int] = field(default_factory=dict[str, int])
    """How many tokens each of those counts for."""
    next_ms: int = 0
    """Where the client's next request stands in the queue, if later than now."""

    def copy(self) -> "Account":
        return Account(dict(self.open_ms), dict(self.minute_ms), dict(self.tokens), self.next_ms)

    def admit(
        self, request_id: str, limits: Limits, *, tokens: int, quantum_ms: int, now_ms: int
    ) -> Admission:
        self._forget(now_ms, COUNTED_MS if limits.streams else MINUTE_MS)
        if request_id in self.open_ms or request_id in self.minute_ms:
            return _placed(max(now_ms, self.next_ms - quantum_ms), quantum_ms, now_ms)
        refused = self._refusal(limits, tokens, now_ms)
        if refused is not None:
            return refused
        place_ms = min(max(now_ms, self.next_ms), now_ms + MAX_AHEAD_MS)
        if quantum_ms > 0:
            self.next_ms = place_ms + quantum_ms
        if limits.streams or limits.tokens_per_minute:
            self.open_ms[request_id] = now_ms
        if limits.requests_per_minute or limits.tokens_per_minute:
            self.minute_ms[request_id] = now_ms
        if limits.tokens_per_minute:
            self.tokens[request_id] = tokens
        return _placed(place_ms, quantum_ms, now_ms)

    def settle(self, request_id: str, used_tokens: int | None) -> None:
        """The request has ended. With ``used_tokens`` None, unknown, it counts on as before."""
        self.open_ms.pop(request_id, None)
        if used_tokens is not None and request_id in self.tokens:
            self.tokens[request_id] = used_tokens

    def leave(self, request_id: str) -> None:
        """The request was not created after all."""
        for kept in (self.open_ms, self.minute_ms, self.tokens):
            kept.pop(request_id, None)

    def _forget(self, now_ms: int, open_for_ms: int) -> None:
        self.open_ms = {key: ms for key, ms in self.open_ms.items() if ms > now_ms - open_for_ms}
        self.minute_ms = {key: ms for key, ms in self.minute_ms.items() if ms > now_ms - MINUTE_MS}
        self.tokens = {key: n for key, n in self.tokens.items() if key in self.minute_ms}

    def _refusal(self, limits: Limits, tokens: int, now_ms: int) -> Admission | None:
        if limits.streams and len(self.open_ms) >= limits.streams:
            return Admission(False, limit="streams", counted=self._some_open(now_ms))
        minute = _oldest_first(self.minute_ms)
        refused = None
        if limits.requests_per_minute and len(minute) >= limits.requests_per_minute:
            wait_ms = minute[-limits.requests_per_minute][1] + MINUTE_MS - now_ms
            refused = Admission(False, limit="requests", wait_ms=wait_ms)
        over = sum(self.tokens.values()) + tokens - limits.tokens_per_minute
        if limits.tokens_per_minute and over > 0:
            wait_ms = self._wait_for_tokens(minute, over, now_ms)
            if refused is None or wait_ms >= refused.wait_ms:
                some = self._some_open(now_ms)
                refused = Admission(False, limit="tokens", wait_ms=wait_ms, counted=some)
        return refused

    def _wait_for_tokens(self, minute: list[tuple[str, int]], over: int, now_ms: int) -> int:
        """How many ms until ``over`` tokens of the last minute no longer count."""
        room_ms = now_ms
        for request_id, ms in minute[:LOOKED_AT]:
            over -= self.tokens.get(request_id, 0)
            room_ms = ms
            if over <= 0:
                break
        return room_ms + MINUTE_MS - now_ms

    def _some_open(self, now_ms: int) -> tuple[tuple[str, int], ...]:
        """Some open requests with their ages in ms. If there are many, the clock picks which, so
        that in time each is picked.
        """
        entries = _oldest_first(self.open_ms)
        first = now_ms % max(1, len(entries) - LISTED + 1)
        return tuple((key, now_ms - ms) for key, ms in entries[first : first + LISTED])


def _placed(place_ms: int, quantum_ms: int, now_ms: int) -> Admission:
    ahead = (place_ms - now_ms) // quantum_ms if quantum_ms > 0 else 0
    return Admission(True, place_ms, ahead)


def _oldest_first(admitted_ms: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(admitted_ms.items(), key=lambda item: (item[1], item[0]))
