"""Whether an owner is there, as its subscribers tell it, and what is claimed of one that is not
(P4, P15): the same on every store."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from lore.protocol.commands import Append, Claim, Look, Meet, Release, Renew, Silent, Waiting
from lore.protocol.lifecycle import Status
from lore.store import MemoryStore, ValkeyStore
from lore.store.base import Claimed, Outcome, Store
from lore.store.keys import partition_of, request_key
from tests.store.backends import (
    KINDS,
    LEASE_MS,
    Backend,
    Clock,
    Deployment,
    chunk,
    deployed,
    eventually,
    ids_in_one_partition,
)

SILENT_MS = 500
PARTITION = partition_of("a")


@dataclass
class Two:
    """Two generators of one store: the owner, g1, and another."""

    owner: Backend
    other: Store
    admin: Deployment | None = None

    def silent(self, *owners: str, run_id: str = "") -> tuple[Silent, ...]:
        return (Silent(run_id or self.other.run_id(PARTITION), SILENT_MS, owners or ("g1",)),)

    async def take(
        self, silent: tuple[Silent, ...] | None = None, *, untried: bool = False
    ) -> Claimed | None:
        named = self.silent() if silent is None else silent
        return await self.other.do(Claim(PARTITION, "g2", LEASE_MS, untried=untried, silent=named))

    async def there(self, *owners: str) -> list[str]:
        return await self.other.do(Look(PARTITION, owners))

    async def gone(self) -> None:
        """g1 has ended."""
        await self.owner.store.close()

        async def is_gone() -> bool | None:
            return await self.there("g1") == [] or None

        await eventually(is_gone)


@pytest.fixture(params=["memory", *KINDS])
async def two(request: pytest.FixtureRequest) -> AsyncIterator[Two]:
    clock = Clock()
    if request.param == "memory":
        owner = MemoryStore(clock_ms=clock)
        both = Two(
            Backend(owner, clock, lambda now_ms: None), MemoryStore(owner.state, clock_ms=clock)
        )
        await owner.appear("g1")
        yield both
        return
    with deployed(request, request.param) as deployment:
        stores = [ValkeyStore(deployment.url, clock_ms=clock) for _ in range(2)]
        for store in stores:
            await store.connect()
        await stores[0].appear("g1")
        yield Two(Backend(stores[0], clock, lambda now_ms: None), stores[1], deployment)
        for store in stores:
            await store.close()


async def test_an_owner_is_there_until_its_process_ends(two: Two) -> None:
    assert await two.there("g1", "g0") == ["g1"]
    await two.gone()
    assert await two.there("g1", "g0") == []


@pytest.mark.rule("P4.8", "P15.14")
async def test_what_an_owner_had_that_is_gone_is_claimed_and_its_log_forks(two: Two) -> None:
    """P4: the owner may live after all, and believe the log its own."""
    claimed = await two.owner.owned("a")
    await two.owner.append(claimed, chunk(1))
    await two.gone()
    two.owner.pass_time(SILENT_MS)
    assert await two.other.do(Waiting(LEASE_MS)) == []
    assert await two.other.do(Waiting(LEASE_MS, two.silent())) == [
        (claimed.view.created_ms, PARTITION)
    ]
    taken = await two.take()
    assert taken is not None
    view = taken.view
    assert (view.owner, view.status, view.next_seq) == ("g2", Status.GENERATING, 2)
    assert (view.forks, view.shared(claimed.view.log_id)) == (f"{claimed.view.log_id}:2", 1)
    assert await two.other.log("a") == [chunk(1)]
    old = Append("a", "g1", LEASE_MS, claimed.view.epoch, claimed.view.log_id, 32, 0, [chunk(2)])
    again = await two.other.do(old)
    assert again.outcome is Outcome.FENCED


@pytest.mark.rule("P4.8")
async def test_who_claims_next_while_the_lost_lease_runs_forks_as_well(two: Two) -> None:
    """P4: as after an operator took a silent owner for lost."""
    first = await two.owner.owned("a")
    await two.gone()
    two.owner.pass_time(SILENT_MS)
    second = await two.take()
    assert second is not None
    await two.other.do(Release("a", "g2", second.view.epoch))
    third = await two.take(())
    assert third is not None
    assert len({first.view.log_id, second.view.log_id, third.view.log_id}) == 3


@pytest.mark.rule("P15.14")
async def test_the_claim_looks_once_more(two: Two) -> None:
    """P15: the owner is back since it was missed."""
    await two.owner.owned("a")
    two.owner.pass_time(SILENT_MS)
    assert await two.other.do(Waiting(LEASE_MS, two.silent())) == []
    assert await two.take() is None


@pytest.mark.rule("P15.14")
async def test_an_owner_that_renews_its_leases_is_alive(two: Two) -> None:
    """P15: it has lost its subscription alone."""
    claimed = await two.owner.owned("a")
    await two.gone()
    two.owner.pass_time(SILENT_MS)
    leases = [("a", claimed.view.epoch, claimed.view.log_id)]
    await two.other.do(Renew(PARTITION, "g1", LEASE_MS, leases))
    two.owner.pass_time(SILENT_MS - 1)
    assert await two.take() is None
    two.owner.pass_time(1)
    assert await two.take() is not None


@pytest.mark.rule("P15.14")
async def test_nobody_is_missed_but_who_is_named_on_the_server_that_was_looked_at(
    two: Two,
) -> None:
    """P15: another server has not heard from the owners yet."""
    await two.owner.owned("a")
    await two.gone()
    two.owner.pass_time(SILENT_MS)
    assert await two.take(()) is None
    assert await two.take(two.silent("g0", "g2")) is None
    assert await two.take(two.silent(run_id="another")) is None
    assert await two.take(two.silent("g0", "g1")) is not None


async def test_lapsed_leases_come_first_and_the_queue_last(two: Two) -> None:
    waiting, lapsed, left = ids_in_one_partition(3)
    partition = partition_of(waiting)
    for request_id in (lapsed, left):
        await two.owner.open(request_id)
        claimed = await two.owner.claim(request_id)
        two.owner.pass_time(LEASE_MS - SILENT_MS)
        await two.owner.append(claimed, chunk(1))
    await two.owner.open(waiting)
    await two.gone()
    two.owner.pass_time(SILENT_MS)
    silent = two.silent()
    found = [await two.other.do(Claim(partition, "g2", LEASE_MS, silent=silent)) for _ in range(3)]
    assert [one and one.view.request_id for one in found] == [lapsed, left, waiting]


async def test_what_was_tried_in_vain_is_passed_over_if_that_is_wanted(two: Two) -> None:
    await two.owner.owned("a")
    await two.gone()
    two.owner.pass_time(SILENT_MS)
    assert await two.take(untried=True) is None
    taken = await two.take()
    assert taken is not None
    assert taken.view.tries == 2


@pytest.mark.rule("P15.15")
async def test_an_owner_of_an_older_release_is_not_missed(two: Two) -> None:
    """It has no channel of its own. Its lease decides."""
    if two.admin is None:
        pytest.skip("the memory has one release")
    await two.owner.owned("a")
    two.admin.at("a").hset(request_key("a"), "hears_epochs", "1")
    await two.gone()
    two.owner.pass_time(SILENT_MS)
    assert await two.take() is None
    two.owner.pass_time(LEASE_MS)
    assert await two.take() is not None


async def test_generators_meet(two: Two) -> None:
    assert await two.owner.store.do(Meet("g1", 1000)) == ["g1"]
    two.owner.pass_time(600)
    assert sorted(await two.other.do(Meet("g2", 1000))) == ["g1", "g2"]
    two.owner.pass_time(600)
    assert await two.other.do(Meet("g2", 1000)) == ["g2"]
