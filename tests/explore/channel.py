"""How messages leave the channel that they are in."""

from collections.abc import Iterator
from typing import Any

from lore.store.base import AckMessage, ChunkMessage, Message


def takes(channel: tuple[Any, ...]) -> Iterator[tuple[str, str, tuple[Any, ...], Any]]:
    """The ways in which something leaves a channel: (words, kind, what remains, what it was)."""
    if channel:
        yield "", "", channel[1:], channel[0]
        yield "is lost", "drops", channel[1:], channel[0]
        yield " and will again", "doubles", channel, channel[0]
    if len(channel) > 1:
        yield " early", "reorders", (channel[0], *channel[2:]), channel[1]


def words(message: Message) -> str:
    if isinstance(message, ChunkMessage):
        return f"chunk {message.seq}"
    if isinstance(message, AckMessage):
        return f"an ack of {message.acked_seq}"
    return f"of the state {message.status}"
