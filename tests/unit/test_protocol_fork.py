"""P4: who may read on in a forked log."""

import sys

import pytest

from lore.protocol.fork import fork, shared

ONCE = fork("", "old", 11)
TWICE = fork(ONCE, "new", 21)
BACK = fork(ONCE, "new", 6)


@pytest.mark.rule("P4.3")
@pytest.mark.parametrize(
    ("log_id", "current", "forks", "chunks"),
    [
        ("old", "new", ONCE, 10),
        ("new", "new", ONCE, sys.maxsize),
        ("other", "new", ONCE, 0),
        ("old", "newest", TWICE, 10),
        ("new", "newest", TWICE, 20),
        ("old", "newest", BACK, 5),  # the newest left below where the first fork was
        ("new", "newest", BACK, 5),
        ("old", "new", fork(fork("", "old", 5), "old", 3), 2),  # a name that a store used twice
        ("log", "log", "", sys.maxsize),
        ("gone", "log", "", 0),
    ],
)
def test_a_log_has_in_common_with_the_present_one_what_no_fork_since_has_cut_off(
    log_id: str, current: str, forks: str, chunks: int
) -> None:
    """P4. One parent alone was once remembered: who was away over two forks lost the text."""
    assert shared(log_id, current=current, forks=forks) == chunks
