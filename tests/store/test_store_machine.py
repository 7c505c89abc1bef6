"""Every kind of Valkey and the twin, driven alike (``machine.py``)."""

import pytest

from tests.store.backends import KINDS
from tests.store.machine import ForgettingMachine, StoreMachine, run_machine
from tests.store.real import RealStore, real

__all__ = ["real"]


@pytest.mark.rule("P13.1")
def test_valkey_and_its_twin_never_differ(real: RealStore) -> None:
    run_machine(real)


@pytest.mark.parametrize("real", KINDS[1:], indirect=True)
@pytest.mark.parametrize("machine", [StoreMachine, ForgettingMachine])
def test_every_kind_of_valkey_is_like_the_twin(
    real: RealStore, machine: type[StoreMachine]
) -> None:
    """P2, P3, P4, P9, P13, P15, P16"""
    run_machine(real, machine, max_examples=5)


def test_valkey_and_its_twin_forget_alike(real: RealStore) -> None:
    """P3"""
    run_machine(real, ForgettingMachine, max_examples=25)
