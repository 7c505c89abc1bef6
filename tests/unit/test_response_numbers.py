"""O7: the number of a response's event says which log it counts in."""

from types import SimpleNamespace
from typing import Any

import pytest

from lore.protocol.fork import fork
from lore_edge.openai.numbers import STRIDE, base, log_of

CREATED_MS = 1_796_000_000_000


def name(after_ms: int) -> str:
    """Of the log that began so long after the request was created."""
    return f"{CREATED_MS + after_ms:x}"


def view(*forks: tuple[int, int]) -> Any:
    """Of a request whose log forked so long after its creation, each time at this chunk."""
    log_id, older = name(0), ""
    for after_ms, seq in forks:
        log_id, older = name(after_ms), fork(older, log_id, seq)
    return SimpleNamespace(created_ms=CREATED_MS, log_id=log_id, forks=older)


@pytest.mark.rule("O6", "O7")
@pytest.mark.parametrize(
    ("forks", "bases"),
    [
        ([], [0, 0, 0]),
        ([(2_500, 5)], [0, 2, 2]),
        ([(2_500, 5), (4_999, 9)], [0, 2, 4]),
        ([(2_500, 5), (2_900, 9)], [0, 2, 3]),  # of two in one second
        ([(10, 5)], [0, 1, 1]),
        ([(2_500, 5), (60_000, 3)], [60, 60, 60]),  # below the fork before
    ],
)
def test_each_log_counts_on_from_when_it_began(
    forks: list[tuple[int, int]], bases: list[int]
) -> None:
    here = view(*forks)
    assert [base(here, seq) // STRIDE for seq in (4, 5, 9)] == bases
    for seq in (4, 5, 9):
        log = log_of(here, base(here, seq) + seq)
        assert log.base == base(here, seq)
        assert log.first <= seq


@pytest.mark.rule("O7")
def test_a_number_of_a_log_that_a_store_lost_is_none_of_another() -> None:
    """It counts too far in a log that there is, so that its reader is told."""
    lost, here = view((2_500, 5)), view((4_500, 5))
    number = base(lost, 9) + 9
    log = log_of(here, number)
    assert log.name == name(0)
    assert number - log.base > STRIDE
