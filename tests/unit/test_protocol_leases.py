"""Which claims of a request a generator works on (P15). What it does with them, the simulator
tries (``tests/sim/test_owner_mutations.py``)."""

from dataclasses import replace

import pytest

from lore.protocol.commands import Finish, Renew
from lore.protocol.leases import Leases
from lore.protocol.lifecycle import Status
from lore.protocol.messages import Claimed, News, Outcome, Position
from lore.protocol.owner_types import Update
from tests.explore.calls import TERMS, claim_in, owner_of
from tests.explore.depot import REQUEST


@pytest.mark.parametrize(
    ("live", "claimed", "is_newer"),
    [
        (None, 5, False),
        (4, 5, False),  # the earlier claim is worked on still: the later one takes its place
        (5, 5, False),
        (6, 5, True),  # what was claimed came late, and is ours anew
    ],
)
def test_a_claim_makes_way_for_a_later_one_of_the_same_request(
    live: int | None, claimed: int, is_newer: bool
) -> None:
    """P2, P15"""
    leases = Leases(TERMS, max_kept=9, run_id=lambda _: "run-1", jitter=lambda: 1.0, now=0.0)
    if live is not None:
        leases.add(owner_of(claim(live), (), 0.0), 0.0)
    assert leases.has_newer(REQUEST, claimed) is is_newer
    assert not leases.has_newer("another", claimed)


def claim(epoch: int) -> Claimed:
    claimed = claim_in("run-1")
    return replace(claimed, view=replace(claimed.view, epoch=epoch))


@pytest.mark.rule("P15.1")
def test_a_lease_is_renewed_within_its_half_whatever_is_appended() -> None:
    leases = Leases(TERMS, max_kept=9, run_id=lambda _: "run-1", jitter=lambda: 1.0, now=0.0)
    owner = owner_of(claim(4), (), 0.0)
    leases.add(owner, 0.0)
    renewed_s = 0.0
    for tenth in range(1, 41):  # four leases
        now = tenth * TERMS.lease_s / 10
        leases.on_time(now)
        owner.on_piece("word ", (tenth,), now) if tenth < 8 else None
        leases.pump(owner, now)
        step, leases.appends = leases.appends, []
        leases.on_step(step, [tenth] * len(step), "run-1", now)
        for subject, command in leases.outbox:
            assert isinstance(command, Renew)
            position = Position(Outcome.OK, Status.GENERATING, owner.producer.next_seq, 0, 0)
            leases.on_answer(subject, command, [position], now)
            renewed_s = now
        leases.outbox.clear()
        assert now - renewed_s <= TERMS.lease_s / 2


@pytest.mark.rule("P15.16", "P15.17")
def test_a_request_that_waits_for_a_reader_is_on_trial_no_more() -> None:
    """A simulated generator let another one wait for ever: the first was tried alone, its only
    reader left before its prompt was read, and nobody came back."""
    leases = Leases(TERMS, max_kept=9, run_id=lambda _: "run-1", jitter=lambda: 1.0, now=0.0)
    again = claim(4)
    owner = owner_of(replace(again, view=replace(again.view, tries=2)), (), 0.0)
    leases.add(owner, 0.0)
    assert leases.on_trial
    owner.on_news(News(Position(Outcome.OK, Status.PAUSED, 1, 0, 0), 4), 1.0)
    assert owner.parked
    assert not leases.on_trial


@pytest.mark.rule("P15.17")
def test_an_end_is_the_end_of_a_trial() -> None:
    """An answer whose log was whole already has an end and no append: told so late that it lives,
    its generator took it up again beside another one on trial."""
    again = claim(4)
    owner = owner_of(replace(again, view=replace(again.view, tries=2)), (), 0.0)
    owner.on_piece("", (), 0.0, finish_reason="stop")
    assert isinstance(owner.take(0.0, "run-1"), Finish)
    assert owner.suspect
    assert owner.on_answer(Position(Outcome.OK, Status.DONE, 1, 0, 0), "run-1", 0.1) is Update.ENDED
    assert not owner.suspect
