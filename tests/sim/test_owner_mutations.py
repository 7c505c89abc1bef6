"""Each decision of an owner and of what is claimed, taken wrongly: each must be found (P2 to P4,
P15).

A row is the mistake, the rule that finds it, and what lets it happen: None for whatever the seeds
draw. The search stops at the first seed that finds it; none may need more than ``SEEDS``, from
``RARE`` on for those that are. The rules are in the tests' names: ``-k P3``.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from lore.protocol import claims, leases
from lore.protocol.claims import Candidate, Claims, Verdict
from lore.protocol.commands import Append, Release
from lore.protocol.leases import Leases
from lore.protocol.messages import News, Outcome, Position
from lore.protocol.owner import Owner
from lore.protocol.owner_channels import OwnerChannels
from lore.protocol.owner_types import Errand, OwnerState, Update
from lore.store.memory.records import Record
from lore.store.memory.state import StoreState
from tests.sim.faults import Options
from tests.sim.run import simulate

pytestmark = pytest.mark.long
SEEDS = 2_000

Patch = pytest.MonkeyPatch


# an owner


def forgets_what_its_readers_have_not_acknowledged(patch: Patch) -> None:
    def on_kept(self: Owner, *_: object) -> Update:
        return self._go(Update.LET_GO)

    patch.setattr(Owner, "_on_kept", on_kept)


def takes_news_of_an_old_lease_for_its_own(patch: Patch) -> None:
    """A ``fenced`` without an epoch: after a reap, a revival and a new claim, it ends that one."""
    real = Owner.on_news

    def on_news(self: Owner, news: News, now: float) -> Update | None:
        return real(self, news._replace(epoch=self.epoch), now)

    patch.setattr(Owner, "on_news", on_news)


def drops_what_the_store_lacks_chunks_of(patch: Patch) -> None:
    real = Owner._on_judged

    def on_judged(self: Owner, kind: type, position: Position, *args: Any) -> Update | None:
        if position.outcome is Outcome.GAP:
            return self._go(Update.TAKEN)
        return real(self, kind, position, *args)

    patch.setattr(Owner, "_on_judged", on_judged)


def drops_what_the_store_has_forgotten(patch: Patch) -> None:
    patch.setattr(Owner, "_is_forgotten", lambda *_: False)


def takes_the_echo_of_its_own_end_for_a_loss(patch: Patch) -> None:
    """The answer to its end was lost, and the append that it sends again is fenced."""
    real = Owner._on_judged

    def on_judged(self: Owner, kind: type, position: Position, *args: Any) -> Update | None:
        turn = real(self, kind, position, *args)
        if position.outcome is Outcome.FENCED and self._errand is Errand.FINISH:
            return self._go(Update.TAKEN)
        return turn

    patch.setattr(Owner, "_on_judged", on_judged)


def takes_a_renewal_after_its_own_end_for_a_loss(patch: Patch) -> None:
    patch.setattr("lore.protocol.owner.ENDED", frozenset[Any]())


def says_an_end_only_once(patch: Patch) -> None:
    """The store forgot the end, and its owner renews the lease of a request that has ended."""
    real = Owner._go_on

    def go_on(self: Owner, *args: Any) -> None:
        ended = self.producer.ended
        real(self, *args)
        self.producer.ended = ended

    patch.setattr(Owner, "_go_on", go_on)


def counts_a_drain_as_a_failure(patch: Patch) -> None:
    real = Owner.hand_back

    def hand_back(self: Owner, *, failed: bool) -> None:
        del failed
        real(self, failed=True)

    patch.setattr(Owner, "hand_back", hand_back)


def takes_a_failure_for_a_drain(patch: Patch) -> None:
    """What ends engines is tried for ever."""
    real = Owner.hand_back

    def hand_back(self: Owner, *, failed: bool) -> None:
        del failed
        real(self, failed=False)

    patch.setattr(Owner, "hand_back", hand_back)


def hands_nothing_back(patch: Patch) -> None:
    """Its leases lapse, each after its time."""
    patch.setattr(Owner, "hand_back", lambda self, *, failed: None)


def appends_and_forgets_to_release(patch: Patch) -> None:
    real = Owner.deadline

    def deadline(self: Owner) -> float | None:
        leaves = self.state is OwnerState.LEAVING and not self.is_calling
        return self.producer.deadline() if leaves else real(self)

    patch.setattr(Owner, "deadline", deadline)


def releases_before_all_is_appended(patch: Patch) -> None:
    def hand_back(self: Owner, *, failed: bool) -> None:
        if self.state is OwnerState.WORKING:
            self.state, self._failed = OwnerState.RELEASING, failed

    patch.setattr(Owner, "hand_back", hand_back)


def asks_for_a_release_once(patch: Patch) -> None:
    """The call, or its answer, is lost, and nobody asks again."""
    real = Owner.on_lost

    def on_lost(self: Owner) -> None:
        was_releasing = self.state is OwnerState.RELEASING
        real(self)
        if was_releasing:
            self._go(Update.HANDED_BACK)

    patch.setattr(Owner, "on_lost", on_lost)


def goes_on_after_its_release(patch: Patch) -> None:
    """The answer is lost, and a piece comes late."""
    real = Owner.on_lost

    def on_lost(self: Owner) -> None:
        real(self)
        if self.state is OwnerState.RELEASING:
            self.state = OwnerState.LEAVING

    patch.setattr(Owner, "on_lost", on_lost)


def releases_whoever_has_it(patch: Patch) -> None:
    """A release that is repeated takes the request from the owner after it."""
    real = StoreState.release

    def release(self: StoreState, record: Record, command: Release, *, now_ms: int) -> Position:
        command = command._replace(owner=record.view.owner, epoch=record.view.epoch)
        return real(self, record, command, now_ms=now_ms)

    patch.setattr(StoreState, "release", release)


def is_in_doubt_for_ever(patch: Patch) -> None:
    def doubting(real: Callable[..., Any]) -> Callable[..., Any]:
        def on_appended(self: Owner, *args: Any) -> Any:
            suspect = self.suspect
            answer = real(self, *args)
            self.suspect = suspect
            return answer

        return on_appended

    for real in (Owner._on_appended, Owner.on_passed):
        patch.setattr(Owner, real.__name__, doubting(real))


# all owners of a generator


def stops_listening_when_an_earlier_claim_ends(patch: Patch) -> None:
    """It hears no more of what it has claimed anew: that was reaped, and it goes on."""
    patch.setattr(OwnerChannels, "end", lambda *_: True)


def waits_longer_and_longer_for_the_store(patch: Patch) -> None:
    patch.setattr(leases, "LAST_RETRY_S", math.inf)
    patch.setattr(leases, "FIRST_RETRY_S", 30.0)


def renews_too_late(patch: Patch) -> None:
    patch.setattr(leases, "RENEWALS_PER_LEASE", 0.8)


def sends_nothing_again(patch: Patch) -> None:
    real = Leases.on_lost

    def on_lost(self: Leases, subject: Any, command: Any, now: float) -> None:
        if not isinstance(command, Append):
            real(self, subject, command, now)

    patch.setattr(Leases, "on_lost", on_lost)


# claims


def begins_the_grace_with_the_first_connection(patch: Patch) -> None:
    """What is published is heard later, and by then the grace is nearly over."""
    real = Claims.on_store_back

    def on_store_back(self: Claims, now: float) -> None:
        real(self, now - 0.5)

    patch.setattr(Claims, "on_store_back", on_store_back)


def claims_before_it_can_listen(patch: Patch) -> None:
    real = Claims.pump

    def pump(self: Claims, now: float) -> None:
        self._is_ready = lambda _: True
        real(self, now)

    patch.setattr(Claims, "pump", pump)


def lets_a_claim_lapse_that_came_to_nothing(patch: Patch) -> None:
    def give_back(self: Claims, candidate: Candidate, now: float) -> None:
        self.under_way.pop(candidate, None)

    patch.setattr(Claims, "_give_back", give_back)


def gives_a_claim_back_only_once(patch: Patch) -> None:
    patch.setattr(Claims, "_may_be_ours", lambda *_: False)


def fails_a_request_whose_log_was_forgotten_since(patch: Patch) -> None:
    real = claims.judge

    def judge(*args: Any) -> Verdict:
        verdict = real(*args)
        return Verdict.BROKEN if verdict is Verdict.NOT_OURS else verdict

    patch.setattr(claims, "judge", judge)


def continues_for_ever_what_kills_it(patch: Patch) -> None:
    patch.setattr(claims, "MAX_TRIES", 99)


def takes_several_on_trial(patch: Patch) -> None:
    patch.setattr(Leases, "on_trial", property(lambda self: False))


def looks_only_once_for_what_waits(patch: Patch) -> None:
    """It trusts wake-ups, and a lease lapses without one."""
    real = Claims._on_waiting

    def on_waiting(self: Claims, answer: object, now: float) -> None:
        real(self, answer, now)
        self._poll_s = math.inf

    patch.setattr(Claims, "_on_waiting", on_waiting)


REVIVALS = Options(
    generators=1,
    reap_idle_s=4.0,
    slow_ratio=1.0,
    slow_spacing_s=6.0,
    window_tokens=4,
    news_duplication=0.5,
)
FORGETFUL = Options(store_crash_rate=0.15, forget_ratio=1.0, forget_s=3.0, down_s=1.0)
EMPTIED = Options(store_crash_rate=0.1, wipe_ratio=1.0, down_s=1.0, answer_tokens=160)
UNANSWERED = Options(requests=3, answer_lost=0.3, answer_tokens=20, unbound_ratio=0.5)
WAITS = Options(slow_ratio=1.0, slow_spacing_s=3.0, window_tokens=4, lease_s=3.0)
LOSSY = Options(call_lost=0.3, answer_lost=0.2, lease_s=20.0, generator_drain_rate=0.1)
SHORTER = replace(
    FORGETFUL,
    requests=1,
    generators=3,
    generator_drain_rate=0.1,
    answer_tokens=160,
    window_tokens=64,
    forget_s=4.0,
    delay_min_s=0.05,
    delay_max_s=0.5,
    down_s=0.15,
)
CRASHES = Options(
    requests=3, generators=2, generator_crash_rate=0.3, step_s=1.0, lease_s=3.0, answer_tokens=160
)
DRAINS = Options(
    generator_drain_rate=0.2, delay_max_s=0.3, answer_tokens=160, unbound_ratio=1.0, requests=3
)
UNHEARD = replace(DRAINS, call_lost=0.2, answer_lost=0.2, lease_s=20.0)
POISON = Options(poisonous_ratio=1.0, generators=2, requests=2, step_s=0.1)
SEIZED = Options(
    generators=1,
    seizure_rate=0.1,
    reap_idle_s=5.0,
    slow_ratio=1.0,
    slow_spacing_s=8.0,
    window_tokens=1,
    answer_tokens=60,
    tokens_per_step=3,
    lease_s=4.0,
    delay_max_s=0.35,
)
WRONG: list[tuple[Callable[[Patch], None], str, Options | None]] = [
    (forgets_what_its_readers_have_not_acknowledged, "P3", None),
    (takes_news_of_an_old_lease_for_its_own, "P2", REVIVALS),
    (drops_what_the_store_lacks_chunks_of, "P2", FORGETFUL),
    (drops_what_the_store_has_forgotten, "P3", EMPTIED),
    (takes_the_echo_of_its_own_end_for_a_loss, "P3", UNANSWERED),
    (takes_a_renewal_after_its_own_end_for_a_loss, "P3", None),
    (says_an_end_only_once, "liveness", None),
    (counts_a_drain_as_a_failure, "P15", None),
    (takes_a_failure_for_a_drain, "P15", POISON),
    (hands_nothing_back, "P15", DRAINS),
    (appends_and_forgets_to_release, "P15", DRAINS),
    (releases_before_all_is_appended, "P15", DRAINS),
    (asks_for_a_release_once, "P15", UNHEARD),
    (goes_on_after_its_release, "P3", UNHEARD),
    (releases_whoever_has_it, "P2", UNHEARD),
    (is_in_doubt_for_ever, "liveness", CRASHES),
    (stops_listening_when_an_earlier_claim_ends, "P15", SEIZED),
    (waits_longer_and_longer_for_the_store, "liveness", None),
    (renews_too_late, "P15", WAITS),
    (sends_nothing_again, "liveness", LOSSY),
    (begins_the_grace_with_the_first_connection, "P15", None),
    (claims_before_it_can_listen, "P15", None),
    (lets_a_claim_lapse_that_came_to_nothing, "P15", LOSSY),
    (gives_a_claim_back_only_once, "P15", LOSSY),
    (fails_a_request_whose_log_was_forgotten_since, "P15", SHORTER),
    (continues_for_ever_what_kills_it, "P15", None),
    (takes_several_on_trial, "P15", CRASHES),
    (looks_only_once_for_what_waits, "liveness", None),
]

RARE: dict[Callable[[Patch], None], int] = {stops_listening_when_an_earlier_claim_ends: 700}


@pytest.mark.parametrize(
    ("mistake", "rule", "options"),
    [pytest.param(*row, id=f"{row[1]}-{row[0].__name__}") for row in WRONG],
)
def test_the_mistake_is_found(
    mistake: Callable[[Patch], None], rule: str, options: Options | None, monkeypatch: Patch
) -> None:
    """P2, P3, P4, P15"""
    mistake(monkeypatch)
    seeds = range(RARE.get(mistake, 0), SEEDS)
    found = next((r for r in (simulate(s, options) for s in seeds) if r.violation), None)
    assert found is not None
    print(f"seed {found.seed}: {found.violation}")
    assert found.violation.startswith(rule)
