"""As in ``test_mutations.py``: bugs of pace (P20), each of which the simulator must find."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from lore.protocol.pace import AT_ONCE, Pacer
from tests.sim.faults import Options
from tests.sim.run import simulate

SEEDS = 20
CROWDED = Options(
    requests=3,
    generators=1,
    slots=1,
    pace=15.0,
    pace_calm_s=0.5,
    answer_tokens=100,
    window_tokens=32,
    arrive_within_s=15.0,
)

Patch = pytest.MonkeyPatch


def pace_binds_while_nobody_waits(patch: Patch) -> None:
    real = Pacer.on_waiting
    patch.setattr(Pacer, "on_waiting", lambda self, waiting: real(self, waiting + 9))


def pace_binds_for_ever(patch: Patch) -> None:
    real: Callable[..., Any] = Pacer.take

    def take(self: Pacer[Any], now: float) -> Any:
        changes = real(self, now)
        if self._waited_s > -math.inf:
            self._waited_s = math.inf
        return changes

    patch.setattr(Pacer, "take", take)


def a_paced_request_never_wakes(patch: Patch) -> None:
    real: Callable[..., float] = Pacer.deadline

    def deadline(self: Pacer[Any]) -> float:
        return AT_ONCE if real(self) == AT_ONCE else math.inf

    patch.setattr(Pacer, "deadline", deadline)


WRONG = [
    (pace_binds_while_nobody_waits, "P20"),
    (pace_binds_for_ever, "P20"),
    (a_paced_request_never_wakes, "P20"),
]


@pytest.mark.parametrize(
    ("mistake", "rule"), [pytest.param(*row, id=f"{row[1]}-{row[0].__name__}") for row in WRONG]
)
def test_the_mistake_is_found(
    mistake: Callable[[Patch], None], rule: str, monkeypatch: Patch
) -> None:
    """P20"""
    mistake(monkeypatch)
    found = next((r for r in (simulate(s, CROWDED) for s in range(SEEDS)) if r.violation), None)
    assert found is not None
    print(f"seed {found.seed}: {found.violation}")
    assert found.violation.startswith(rule)


def test_without_a_mistake_nothing_is_found_and_requests_are_parked_for_pace(
    monkeypatch: Patch,
) -> None:
    parked: list[int] = []
    real: Callable[..., Any] = Pacer.take

    def take(self: Pacer[Any], now: float) -> Any:
        changes = real(self, now)
        parked.append(len(changes.parked))
        return changes

    monkeypatch.setattr(Pacer, "take", take)
    assert not [result for s in range(5) if (result := simulate(s, CROWDED)).violation]
    assert sum(parked) > 20
