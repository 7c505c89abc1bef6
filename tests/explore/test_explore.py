"""The bounded form of ``make explore``, and proof that it finds what it is there to find."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from lore.protocol import follower, fork
from lore.protocol.commands import Release
from lore.protocol.lifecycle import LIVE
from lore.protocol.owner import Owner
from lore.protocol.window import Window
from lore.store.memory import log as twin_log
from lore.store.memory.records import Record, Records
from lore.store.memory.state import StoreState
from lore_client.protocol.receiver import Receiver
from tests.explore.bounds import FORGETS, LOSES_ALL, SHORT, Bounds, scope
from tests.explore.search import Found, Search
from tests.explore.space import MAKERS, World
from tests.sim.checkers import Safety

SLOW = {"slow_reads": True, "window": 1}
FORGETFUL = scope("forgetful", **FORGETS, readers=1)


def first_violation(bounds: Bounds) -> Found:
    found = Search(bounds).run()
    print(found.report())
    assert found.violation
    assert 1 <= len(found.path) <= 20
    return found


@pytest.mark.rule("P1.1", "P1.2", "P2.6", "P4.5", "P5.1", "P17.1")
@pytest.mark.parametrize("bounds", SHORT, ids=lambda bounds: bounds.name)
def test_every_interleaving_in_bounds_keeps_the_rules_and_ends_well(bounds: Bounds) -> None:
    """P1 to P17, as far as two generators, a store and two readers can break them."""
    found = Search(bounds).run()
    assert not found.violation, found.report()
    assert found.is_whole
    assert found.states > 100


@pytest.mark.parametrize(
    "bounds",
    [
        scope("a reordering", reorders=1, readers=1),
        scope("a cancel", cancels=1, readers=1, tokens=2),
        scope("a generator lost", crashes=1, lapses=1, readers=1, tokens=1),
    ],
    ids=lambda bounds: bounds.name,
)
def test_what_the_reduction_leaves_out_leads_nowhere_else(bounds: Bounds) -> None:
    """The same states in which nothing more can happen, and the same states of the store."""
    few, all_ = Search(bounds), Search(replace(bounds, reduced=False))
    assert few.run().states < all_.run().states
    assert final_states(few) == final_states(all_)
    assert store_states(few) == store_states(all_)


def final_states(search: Search) -> set[Any]:
    space = search.space
    return {
        (
            *(space.depot(world).form(), space.spent(world)),
            *_forms(space.maker, world, MAKERS),
            *_forms(space.line, world, space.lines),
        )
        for world in search.worlds()
        if not space.options(world)
    }


def _forms(part: Callable[[World, int], Any], world: World, places: Sequence[int]) -> list[Any]:
    return sorted((part(world, place).form() for place in places), key=repr)


def store_states(search: Search) -> set[Any]:
    return {search.space.depot(world).form() for world in search.worlds()}


def test_without_fencing_it_finds_the_shortest_double_append(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """P2, P15"""
    monkeypatch.setattr(
        StoreState, "_may_write", lambda self, record, *_, **__: record.view.status in LIVE
    )
    found = first_violation(scope("no fencing", lapses=1, reduced=False))
    assert "P2: append" in found.violation
    assert len(found.path) == 6, "claim, lapse, claim, read, generate, append"
    assert "the lease lapses" in found.path


def test_a_log_that_is_given_back_as_nobody_elses_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """P3, P4: an owner whose lease is over gives back the log in which its successor went on."""
    monkeypatch.setattr(Owner, "is_alone", lambda self, now: True)
    found = first_violation(scope("no fork", **LOSES_ALL, lapses=1, readers=1, tokens=1))
    assert "P4" in found.violation
    assert "the store comes back with nothing" in found.path


def test_a_successor_of_an_owner_out_of_reach_writes_under_another_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """P3, P4: a gap in the rules once, found here. The bug is put back, and must be found again.

    An operator takes a silent owner for lost, another continues, and the store loses all. The
    first owner's lease still runs, so it gives the log back as its own, with other text.
    """
    release = StoreState.release

    def as_if_dead(self: StoreState, record: Record, command: Release, *, now_ms: int) -> Any:
        why = "failed" if command.why == "silent" else command.why
        return release(self, record, command._replace(why=why), now_ms=now_ms)

    monkeypatch.setattr(StoreState, "release", as_if_dead)
    found = first_violation(scope("a seizure", **LOSES_ALL, seizures=1, readers=1, tokens=1))
    assert "P4" in found.violation
    assert "the silent owner is taken for lost" in "\n".join(found.path)


def test_a_successor_of_an_owner_that_was_missed_writes_under_another_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """P4, P15: a claim from an owner without a subscriber forks the log, as it may live."""
    monkeypatch.setattr(Record, "alone_until_ms", property(lambda self: 0, lambda self, _: None))
    real = Safety.expect

    def expect(self: Safety, condition: bool, rule: str, text: str) -> None:
        """What comes of it is to be found."""
        real(self, condition or "shares its log" in text, rule, text)

    monkeypatch.setattr(Safety, "expect", expect)
    found = first_violation(scope("no fork", **LOSES_ALL, losses=1, readers=1, tokens=1))
    assert "P4" in found.violation
    assert "the owner is not connected" in "\n".join(found.path)


def test_a_claim_that_does_not_look_again_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """P15: the owner was silent, and is there again."""
    real = Records._has_left

    def has_left(self: Records, *args: Any) -> bool:
        present, self.present = self.present, set()
        try:
            return real(self, *args)
        finally:
            self.present = present

    monkeypatch.setattr(Records, "_has_left", has_left)
    found = first_violation(scope("an owner that is back", losses=1, readers=1, tokens=1))
    assert "P15: claimed from an owner that is there" in found.violation


def test_without_the_gap_check_it_finds_a_hole_in_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """P2, P3"""
    monkeypatch.setattr(twin_log, "judge", lambda record, chunks: None)
    found = first_violation(FORGETFUL)
    assert "P2" in found.violation


def test_an_ack_off_by_one_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """P9"""
    honest = Receiver.take_ack

    def take_ack(self: Receiver, now: float) -> int | None:
        seq = honest(self, now)
        return None if seq is None else seq + 1

    monkeypatch.setattr(Receiver, "take_ack", take_ack)
    found = first_violation(scope("acks off by one"))
    assert "P9" in found.violation


def test_without_the_fork_check_it_finds_a_splice_of_two_logs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """P1, P4"""
    monkeypatch.setattr(fork, "shared", lambda *_, **__: sys.maxsize)
    bounds = scope("no fork check", restarts=1, saves=1, readers=1, window=1, tokens=2)
    found = first_violation(bounds)
    assert "P1" in found.violation


def test_an_edge_that_takes_a_chunk_of_another_log_for_the_next_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """P4: news of the fork is late, and the chunk is not."""
    monkeypatch.setattr(follower, "is_foreign", lambda chunk, view: False)
    found = first_violation(scope("another log", **FORGETS, **SLOW, readers=1, tokens=1))
    assert "P1" in found.violation or "P17" in found.violation


def test_a_credit_that_is_one_too_large_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """P5"""
    monkeypatch.setattr(Window, "limit", property(lambda self: self.granted + 1))
    found = first_violation(scope("too much credit"))
    assert "P5" in found.violation


def test_a_forgotten_claim_counts_only_while_its_first_lease_lasts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """P2: found here. The bug is put back, and must be found again.

    An owner's lease lapses, another claims the request and appends, and the store comes back
    from before both claims. The first owner's epoch was newer than any that the store knew, so
    its append was taken for the current owner's: other text at the same seq of the same log.
    """
    may_write = Records._may_write

    def for_ever(self: Records, *args: Any, lease_ms: int, **kwargs: Any) -> bool:
        return may_write(self, *args, lease_ms=10**9, **kwargs)

    monkeypatch.setattr(Records, "_may_write", for_ever)
    found = first_violation(scope("forgotten claims", **FORGETS, readers=1, tokens=1))
    assert "P4" in found.violation
    assert "the store comes back as it was saved, with 0 chunks" in found.path
