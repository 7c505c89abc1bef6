"""Each reason not to believe that an owner has left, left out: each must be found (P4, P15).

A row is the mistake and what lets it happen, as in ``test_owner_mutations.py``. That the claim
looks once more, and what a fork is for, the explorer finds (``tests/explore/test_explore.py``).
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from lore.protocol import presence
from lore.protocol.commands import Look, Silent
from lore.protocol.leases import Leases
from lore.protocol.presence import Looking, Presence
from lore.store.memory.records import Record, Records
from tests.sim.faults import Options
from tests.sim.run import simulate

SEEDS = 2_000

Patch = pytest.MonkeyPatch


def misses_who_was_never_there(patch: Patch) -> None:
    """A new server, to which the owner finds its way later than the grace is long."""
    real = Presence.on_looked

    def on_looked(self: Presence, looking: Looking, look: Look, *args: Any) -> bool:
        self._seen |= {(looking.life, owner) for owner in look.owners}
        return real(self, looking, look, *args)

    patch.setattr(Presence, "on_looked", on_looked)


def judges_on_one_look(patch: Patch) -> None:
    patch.setattr(presence, "SILENT_S", 0.0)


def does_not_say_that_it_lives(patch: Patch) -> None:
    patch.setattr(Leases, "say_alive", lambda *_: None)


def takes_from_an_owner_that_says_that_it_lives(patch: Patch) -> None:
    real = Records._has_left

    def has_left(self: Records, record: Record, silent: Sequence[Silent], now_ms: int) -> bool:
        return real(self, record, [one._replace(silent_ms=-(10**9)) for one in silent], now_ms)

    patch.setattr(Records, "_has_left", has_left)


def shares_a_log_with_an_owner_that_may_live(patch: Patch) -> None:
    patch.setattr(Record, "alone_until_ms", property(lambda self: 0, lambda self, value: None))


def never_looks(patch: Patch) -> None:
    patch.setattr(presence, "LOOK_EVERY_S", math.inf)


def forgets_whom_it_has_met(patch: Patch) -> None:
    patch.setattr(Presence, "on_met", lambda *_: None)


def does_not_claim_what_the_missed_owned(patch: Patch) -> None:
    patch.setattr(Presence, "silent", ())


QUIET = Options(generators=3, requests=3, step_s=1.0, lease_s=20.0, answer_tokens=160)


def quiet(**rates: float) -> Options:
    """Owners that append so seldom that their appends do not speak for them."""
    return Options(**{**vars(QUIET), **rates})


CRASHES = quiet(generator_crash_rate=0.1, down_s=1.0)
WRONG: list[tuple[Callable[[Patch], None], Options]] = [
    (misses_who_was_never_there, quiet(store_crash_rate=0.05, late_ratio=0.5, down_s=1.0)),
    (judges_on_one_look, quiet(connection_loss_rate=0.2)),
    (does_not_say_that_it_lives, quiet(subscription_loss_rate=0.2)),
    (takes_from_an_owner_that_says_that_it_lives, quiet(subscription_loss_rate=0.2)),
    (shares_a_log_with_an_owner_that_may_live, CRASHES),
    (never_looks, CRASHES),
    (forgets_whom_it_has_met, CRASHES),
    (does_not_claim_what_the_missed_owned, CRASHES),
]


@pytest.mark.parametrize(("mistake", "options"), WRONG, ids=lambda it: getattr(it, "__name__", ""))
def test_the_mistake_is_found(
    mistake: Callable[[Patch], None], options: Options, monkeypatch: Patch
) -> None:
    mistake(monkeypatch)
    found = next((r for r in (simulate(s, options) for s in range(SEEDS)) if r.violation), None)
    assert found is not None
    print(f"seed {found.seed}: {found.violation}")


@pytest.mark.parametrize("options", dict.fromkeys(options for _, options in WRONG))
def test_without_a_mistake_the_same_runs_are_clean(options: Options) -> None:
    for seed in range(30):
        result = simulate(seed, options)
        assert not result.violation, (seed, result.violation)
