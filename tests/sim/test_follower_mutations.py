"""Each decision of an edge, made wrongly, must be found: by the rule that is named, in a run whose
seed the test prints. What concerns a peer's TCP, holes and other subjects is found elsewhere
(``tests/services``: ``test_edge_sockets``, ``test_edge_recovery``, ``test_edge_matrix``).
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from lore.protocol import follower
from lore.protocol.delivery import Delivery, Opening, Step
from lore.protocol.follower import Follower
from lore.protocol.follower_types import Clear
from lore.protocol.merge import Merge
from lore.protocol.restores import Absence
from tests.sim import feed
from tests.sim.faults import Options
from tests.sim.run import simulate

SEEDS = 2_000

Patch = pytest.MonkeyPatch

ANY = None
"""As drawn from the seed."""
BEHIND = Options(
    requests=1,
    readers_per_request=2,
    unbound_ratio=1.0,
    answer_tokens=160,
    slow_ratio=1.0,
    slow_spacing_s=1.0,
    store_crash_rate=0.15,
    forget_ratio=1.0,
    forget_s=3.0,
    down_s=1.0,
    crash_together_ratio=1.0,
)
"""Readers far behind, and a store that forgets what they have yet to be sent."""
FORKED = replace(
    BEHIND,
    edges=1,
    readers_per_request=3,
    store_crash_rate=0.3,
    forget_s=6.0,
    generator_crash_rate=0.1,
)
"""The same, and owners that end, so that what was forgotten is made anew in another log."""
REAPING = Options(
    reap_idle_s=5.0, slow_ratio=1.0, slow_spacing_s=6.0, event_loss=0.3, window_tokens=4
)


def a_gap_waits_for_something_else(patch: Patch) -> None:
    """The log is not read after a gap until something else wakes the edge."""
    real = Merge.on_live

    def on_live(self: Merge, seq: int) -> Any:
        missing, arrival = self.missing, real(self, seq)
        self.missing = missing
        return arrival

    patch.setattr(Merge, "on_live", on_live)


def a_new_subscription_is_no_reason_to_read(patch: Patch) -> None:
    patch.setattr(Follower, "on_reset", lambda self, now: None)


def nobody_looks_again_after_subscribing(patch: Patch) -> None:
    """P12: the first look is older than the subscription."""
    patch.setattr(feed, "FOLLOWER", replace(feed.FOLLOWER, look_again_s=1e9))


def silence_is_no_reason_to_look(patch: Patch) -> None:
    real = Follower.deadline

    def deadline(self: Follower) -> float | None:
        quiet = self.is_open and not self._wants_call and self._look_again_at is None
        return None if quiet else real(self)

    patch.setattr(Follower, "deadline", deadline)


def a_failed_look_is_forgotten(patch: Patch) -> None:
    real = Follower.on_failed

    def on_failed(self: Follower, now: float) -> None:
        real(self, now)
        self._wants_look = self._merge.missing = not self.is_open

    patch.setattr(Follower, "on_failed", on_failed)


def a_chunk_of_another_log_is_the_next(patch: Patch) -> None:
    patch.setattr(follower, "is_foreign", lambda chunk, view: False)


def memory_outlasts_a_fork(patch: Patch) -> None:
    real = Follower.take
    patch.setattr(
        Follower, "take", lambda self: [c for c in real(self) if not isinstance(c, Clear)]
    )


def a_page_is_not_judged(patch: Patch) -> None:
    patch.setattr(Follower, "judge_page", lambda self, after, chunks, now: chunks)


def a_request_is_given_up_at_once(patch: Patch) -> None:
    real = Absence.on_missed

    def on_missed(self: Absence, *args: Any) -> bool:
        real(self, *args)
        return False

    patch.setattr(Absence, "on_missed", on_missed)


def a_request_is_never_given_up(patch: Patch) -> None:
    patch.setattr(feed, "FOLLOWER", replace(feed.FOLLOWER, restore_grace_s=1e9))


def forgotten_acks_stay_forgotten(patch: Patch) -> None:
    """A store forgets acks. Its readers have all there is, so they have nothing to say again;
    the next owner takes the window over closed, and it never opens."""
    patch.setattr(Follower, "_acknowledge_again", lambda self: None)


def a_reader_of_an_older_log_reads_on(patch: Patch) -> None:
    def loses_history(self: Delivery[Any]) -> bool:
        self.log_id = self.follower.view.log_id
        return False

    patch.setattr(Delivery, "loses_history", loses_history)


def a_reader_of_an_older_log_keeps_its_page(patch: Patch) -> None:
    real = Delivery.loses_history

    def loses_history(self: Delivery[Any]) -> bool:
        loaded = list(self.loaded)
        lost = real(self)
        self.loaded[:] = loaded
        return lost

    patch.setattr(Delivery, "loses_history", loses_history)


def whoever_comes_back_has_everything(patch: Patch) -> None:
    real = Delivery.opening

    def opening(self: Delivery[Any], *, asked: bool) -> Opening:
        found = real(self, asked=asked)
        ended = self.follower.last_seq is not None
        return Opening.COMPLETE if ended and found is Opening.STREAM else found

    patch.setattr(Delivery, "opening", opening)


def the_end_is_told_to_who_is_behind(patch: Patch) -> None:
    def is_at_end(self: Delivery[Any]) -> bool:
        return self.follower.last_seq is not None

    patch.setattr(Delivery, "is_at_end", property(is_at_end))


def the_end_is_never_told(patch: Patch) -> None:
    patch.setattr(Delivery, "is_at_end", property(lambda self: False))


def who_is_behind_is_not_read_to(patch: Patch) -> None:
    real = Delivery._from_store

    def from_store(self: Delivery[Any]) -> Step | None:
        step = real(self)
        return None if step is Step.LOAD else step

    patch.setattr(Delivery, "_from_store", from_store)


def what_waits_in_the_socket_is_sent_again(patch: Patch) -> None:
    real = Delivery.on_checked

    def on_checked(self: Delivery[Any], now: float, *, away: bool, arrived: int) -> Any:
        return real(self, now, away=away, arrived=self.position)

    patch.setattr(Delivery, "on_checked", on_checked)


def a_reaping_is_told_once(patch: Patch) -> None:
    """The word is lost on its way, and the reader who would ask for more knows nothing of it."""
    real = Delivery.next

    def next_(self: Delivery[Any], now: float, *, at_hand: bool) -> Step:
        told = list(self.states)
        step = real(self, now, at_hand=at_hand)
        if self.states and not told:
            self.states = []
            return Step.HEARTBEAT
        return step

    patch.setattr(Delivery, "next", next_)


BUGS: list[tuple[Callable[[Patch], None], str, Options | None]] = [
    (a_gap_waits_for_something_else, "liveness", ANY),
    (a_new_subscription_is_no_reason_to_read, "liveness", ANY),
    (nobody_looks_again_after_subscribing, "liveness", ANY),
    (silence_is_no_reason_to_look, "liveness", ANY),
    (a_failed_look_is_forgotten, "liveness", ANY),
    (a_chunk_of_another_log_is_the_next, "P1", ANY),
    (memory_outlasts_a_fork, "P1", BEHIND),
    (a_page_is_not_judged, "P1", FORKED),
    (a_request_is_given_up_at_once, "P4", ANY),
    (a_request_is_never_given_up, "liveness", ANY),
    (forgotten_acks_stay_forgotten, "liveness", ANY),
    (a_reader_of_an_older_log_reads_on, "P1", ANY),
    (a_reader_of_an_older_log_keeps_its_page, "P1", BEHIND),
    (whoever_comes_back_has_everything, "P1", ANY),
    (the_end_is_told_to_who_is_behind, "liveness", ANY),
    (the_end_is_never_told, "liveness", ANY),
    (who_is_behind_is_not_read_to, "liveness", ANY),
    (what_waits_in_the_socket_is_sent_again, "P11", ANY),
    (a_reaping_is_told_once, "liveness", REAPING),
]


@pytest.mark.parametrize(
    ("bug", "rule", "options"),
    [pytest.param(*row, id=f"{row[1]}-{row[0].__name__}") for row in BUGS],
)
def test_the_simulator_finds(
    bug: Callable[[Patch], None], rule: str, options: Options | None, monkeypatch: Patch
) -> None:
    """P1, P4, P9 to P12, P16"""
    if options is not None:
        assert [simulate(seed, options).violation for seed in range(5)] == [""] * 5
    bug(monkeypatch)
    runs = (simulate(seed, options) for seed in range(SEEDS))
    found = next((run for run in runs if run.violation), None)
    assert found is not None
    print(f"seed {found.seed}: {found.violation}")
    assert found.violation.startswith(rule)
