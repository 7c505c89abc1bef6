"""What a store may believe after a loss of data, and for how long (P2 to P4, P15)."""

from dataclasses import replace

import pytest

from lore.protocol.commands import Claim, Reap, Reinstate, Release, Renew, Revive
from lore.store import MemoryStore
from lore.store.base import Outcome
from lore.store.keys import partition_of
from lore.store.memory.records import Snapshot
from tests.store.backends import (
    LEASE_MS,
    RETENTION_MS,
    Backend,
    Clock,
    chunk,
    chunks,
    ids_in_one_partition,
)

PARTITION = partition_of("a")


class Forgetful(Backend):
    """A store that comes back as it was before. ``machine.py`` holds Valkey to it."""

    def __init__(self) -> None:
        clock = Clock()
        self.memory = MemoryStore(clock_ms=clock)
        super().__init__(self.memory, clock, expire=lambda now_ms: None)

    def comes_back(self, snapshot: Snapshot) -> None:
        self.memory.state.restore(snapshot, "another life")


@pytest.mark.parametrize(("late_ms", "outcome"), [(-1, Outcome.OK), (0, Outcome.FENCED)])
@pytest.mark.rule("P2.6")
async def test_a_forgotten_claim_counts_for_one_lease(late_ms: int, outcome: Outcome) -> None:
    backend = Forgetful()
    await backend.open()
    before = backend.memory.state.snapshot()
    backend.pass_time(1)
    claimed = await backend.claim()
    backend.comes_back(before)
    backend.pass_time(LEASE_MS + late_ms)
    assert (await backend.append(claimed, chunk(1))).outcome is outcome
    view = await backend.store.view("a")
    assert view is not None
    taken_over = (view.owner, view.epoch) == ("g1", claimed.view.epoch)
    assert taken_over is (outcome is Outcome.OK)


@pytest.mark.parametrize(("late_ms", "outcome"), [(-1, Outcome.OK), (0, Outcome.FENCED)])
@pytest.mark.rule("P2.11")
async def test_an_owner_that_a_store_remembers_after_a_loss_counts_until_its_lease_ends(
    late_ms: int, outcome: Outcome
) -> None:
    backend = Forgetful()
    claimed = await backend.owned()
    backend.comes_back(backend.memory.state.snapshot())
    backend.pass_time(LEASE_MS + late_ms)
    assert (await backend.append(claimed, chunk(1))).outcome is outcome
    again = await backend.store.do(Claim(PARTITION, "g1", LEASE_MS))
    if outcome is Outcome.FENCED:
        assert again is not None
        assert (await backend.append(again, chunk(1))).outcome is Outcome.OK


@pytest.mark.rule("P15.16")
async def test_a_claim_in_another_life_of_the_store_is_the_first_try() -> None:
    """A server that was away may be why the last owner is gone."""
    backend = Forgetful()
    await backend.owned()
    backend.pass_time(LEASE_MS)
    assert (await backend.claim()).view.tries == 2
    backend.comes_back(backend.memory.state.snapshot())
    backend.pass_time(LEASE_MS)
    assert (await backend.claim()).view.tries == 1


@pytest.mark.rule("P2.8")
async def test_renewals_and_ends_are_judged_by_their_log(backend: Backend) -> None:
    claimed = await backend.owned()
    ours, other = claimed.view.log_id, "of-a-lost-fork"
    for log_id, outcome in ((other, Outcome.FENCED), (ours, Outcome.OK)):
        leases = [("a", claimed.view.epoch, log_id)]
        (renewed,) = await backend.store.do(Renew(PARTITION, "g1", LEASE_MS, leases))
        assert renewed.outcome is outcome
        assert (await backend.finish(claimed, 1, log_id=log_id)).outcome is outcome


@pytest.mark.rule("P3.14")
async def test_what_was_given_back_stands_where_it_was_created(backend: Backend) -> None:
    given_back, waits = ids_in_one_partition(2)
    known = replace((await backend.owned()).view, request_id=given_back)
    backend.pass_time(1)
    await backend.open(waits)
    await backend.store.do(Reinstate(known, "body", chunks(1, 1), LEASE_MS))
    await backend.store.do(Release(given_back, "g1", known.epoch))
    await backend.claim(given_back, "g2")
    await backend.claim(waits, "g2")


@pytest.mark.parametrize(
    ("lost", "forks"),
    [("reaped", True), ("taken for silent", True), ("dead", False), ("released", False)],
)
@pytest.mark.rule("P4.8", "P4.9")
async def test_a_log_forks_where_its_owner_may_not_know_that_it_lost_it(
    backend: Backend, lost: str, forks: bool
) -> None:
    """While its lease runs, it would give the log back as its own."""
    claimed = await backend.owned()
    await backend.append(claimed, chunk(1))
    if lost == "reaped":
        await backend.store.do(Reap("a", idle_ms=0, retention_ms=RETENTION_MS))
        await backend.store.do(Revive("a"))
    else:
        why = {"taken for silent": "silent", "dead": "failed", "released": None}[lost]
        await backend.store.do(Release("a", "g1", claimed.view.epoch, why))
    backend.pass_time(LEASE_MS - 1)
    taken = await backend.claim("a", "g2")
    assert (taken.view.log_id != claimed.view.log_id) is forks
    assert taken.view.shared(claimed.view.log_id) >= 1
