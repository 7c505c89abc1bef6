"""P2: for which claim of a request its generator listens."""

import pytest

from lore.protocol.guards import Guards


@pytest.mark.parametrize(
    ("begun", "ended", "stops"),
    [
        ((1,), 1, True),
        ((1, 2), 1, False),  # the earlier claim's end is heard later
        ((1, 2), 2, True),
        ((2, 1), 1, False),  # the earlier claim begins to listen later
        ((2, 1), 2, True),
        ((1,), 2, False),
        ((), 1, False),
    ],
)
def test_a_request_is_listened_to_until_its_latest_claim_ends(
    begun: tuple[int, ...], ended: int, stops: bool
) -> None:
    """P2"""
    guards = Guards()
    for epoch in begun:
        guards.begin("request", epoch)
    guards.begin("another", 9)
    assert guards.end("request", ended) is stops
    assert guards.end("another", 9)


def test_what_has_stopped_begins_anew() -> None:
    """P2"""
    guards = Guards()
    guards.begin("request", 2)
    assert guards.end("request", 2)
    assert not guards.end("request", 2)
    guards.begin("request", 1)
    assert guards.end("request", 1)
