"""P4: who may read on in a forked log."""

import pytest

from lore.protocol.fork import may_continue


@pytest.mark.parametrize(
    ("position", "log_id", "continues"),
    [
        (0, "any", True),  # has nothing, so nothing can differ
        (99, "new", True),
        (10, "old", True),
        (11, "old", False),
        (12, "old", False),
        (3, "older", False),  # nothing is known of where that one was forked
    ],
)
def test_a_reader_continues_below_the_fork_and_no_further(
    position: int, log_id: str, continues: bool
) -> None:
    """P4: log "new" was forked from "old" at seq 11."""
    answer = may_continue(position, log_id, current="new", parent="old", fork_seq=11)
    assert answer is continues


def test_a_log_that_was_never_forked_is_read_on_by_its_readers_alone() -> None:
    """P4"""
    assert may_continue(50, "log", current="log", parent="", fork_seq=1)
    assert not may_continue(50, "gone", current="log", parent="", fork_seq=1)
