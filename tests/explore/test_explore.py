"""The bounded form of ``make explore``, and proof that it finds what it is there to find."""

import pytest

from lore.protocol import fork
from lore.protocol.lifecycle import LIVE
from lore.protocol.merge import Arrival, Merge
from lore.protocol.receiver import Receiver
from lore.protocol.window import Window
from lore.store import twin
from lore.store.twin import StoreState
from tests.explore.bounds import SHORT, Bounds
from tests.explore.search import Found, Search

NOTHING = {kind: 0 for kind in Bounds.kinds()}
FORGETFUL = Bounds(
    **{**NOTHING, "restarts": 1, "saves": 1, "lapses": 1}, name="forgetful", readers=1, faults=2
)


def first_violation(bounds: Bounds) -> Found:
    found = Search(bounds, endings=False).run()
    print(found.report())
    assert found.violation
    assert 1 <= len(found.path) <= 20
    return found


@pytest.mark.parametrize("bounds", SHORT, ids=lambda bounds: bounds.name)
def test_every_interleaving_in_bounds_keeps_the_rules_and_ends_well(bounds: Bounds) -> None:
    """P1 to P17, as far as two generators, a store and two readers can break them."""
    found = Search(bounds).run()
    assert not found.violation, found.report()
    assert found.is_whole
    assert found.states > 100


def test_without_fencing_it_finds_the_shortest_double_append(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """P2, P15"""
    monkeypatch.setattr(
        StoreState, "_may_write", lambda self, record, *_, **__: record.view.status in LIVE
    )
    bounds = Bounds(**{**NOTHING, "lapses": 1}, name="no fencing", readers=1)
    found = first_violation(bounds)
    assert "P2: append" in found.violation
    assert any("the lease lapses" in label for label in found.path)


def test_without_the_gap_check_it_finds_a_hole_in_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """P2, P3"""
    monkeypatch.setattr(twin, "judge", lambda record, chunks: None)
    found = first_violation(FORGETFUL)
    assert "P2" in found.violation


def test_an_ack_off_by_one_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """P9"""
    honest = Receiver.take_ack

    def take_ack(self: Receiver, now: float) -> int | None:
        seq = honest(self, now)
        return None if seq is None else seq + 1

    monkeypatch.setattr(Receiver, "take_ack", take_ack)
    found = first_violation(Bounds(**NOTHING, name="acks off by one"))
    assert "P9" in found.violation


def test_without_the_fork_check_it_finds_a_splice_of_two_logs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """P1, P4"""
    monkeypatch.setattr(fork, "may_continue", lambda *_, **__: True)
    found = first_violation(FORGETFUL)
    assert "P1" in found.violation


def test_an_edge_that_passes_gaps_on_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """P10"""

    def on_live(self: Merge, seq: int) -> Arrival:
        self.head = seq
        return Arrival.NEXT

    monkeypatch.setattr(Merge, "on_live", on_live)
    bounds = Bounds(**{**NOTHING, "drops": 1}, name="no gaps", readers=1)
    found = Search(bounds).run()
    assert found.violation


def test_a_credit_that_is_one_too_large_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """P5"""
    monkeypatch.setattr(Window, "limit", property(lambda self: self._granted + 1))
    found = first_violation(Bounds(**NOTHING, name="too much credit"))
    assert "P5" in found.violation
