"""How long an edge waits for a request that the store does not have (P4.7).

Its owner may be about to give it back.
"""


class Absence:
    """The absence of one request, as an edge observes it."""

    def __init__(self, grace_s: float, *, now: float, wait_s: float) -> None:
        """``wait_s``: how long to wait for a request that was never seen, because it may be lost,
        too.
        """
        self.lost = False
        """The store lost it with its data: it was neither deleted nor has it expired."""
        self._grace_s = grace_s
        self._waits = wait_s > 0
        self._give_up_at = now + wait_s
        self._missed_in = ""
        """The life of the store in which it was last missed; '' while the store has it."""

    def end(self) -> None:
        """The store has it."""
        self._missed_in = ""

    def on_missed(self, run_id: str, seen_in: str, now: float) -> bool:
        """Return whether to wait for it. ``seen_in``: the life that last had it, or ''."""
        again = self._missed_in not in ("", run_id)  # owners first have to return to this life
        if again or (seen_in and not self._missed_in):
            self._give_up_at = now + self._grace_s
        self._missed_in = run_id
        self.lost = run_id != seen_in if seen_in else self._waits
        return self.lost and now < self._give_up_at


class Restores:
    """When each partition last got a server that may have lost data."""

    def __init__(self, grace_s: float) -> None:
        self._grace_s = grace_s
        self._run_ids: dict[int, str] = {}
        self._until: dict[int, float] = {}

    def notice(self, partition: int, run_id: str, now: float) -> None:
        """Note the life of the partition's server. The first life seen counts as no change."""
        before = self._run_ids.get(partition, "")
        if run_id != before:
            self._run_ids[partition] = run_id
            if before:
                self._until[partition] = now + self._grace_s

    def wait_s(self, partition: int, run_id: str, now: float) -> float:
        self.notice(partition, run_id, now)
        return max(0.0, self._until.get(partition, 0.0) - now)
