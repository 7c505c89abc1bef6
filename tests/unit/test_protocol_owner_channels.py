"""P2: for which claim of a request its generator listens."""

import pytest

from lore.protocol.owner_channels import OwnerChannels


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
    channels = OwnerChannels()
    for epoch in begun:
        channels.begin("request", epoch)
    channels.begin("another", 9)
    assert channels.end("request", ended) is stops
    assert channels.end("another", 9)


def test_what_has_stopped_begins_anew() -> None:
    """P2"""
    channels = OwnerChannels()
    channels.begin("request", 2)
    assert channels.end("request", 2)
    assert not channels.end("request", 2)
    channels.begin("request", 1)
    assert channels.end("request", 1)
