"""The subscription connection: one for a process, however many requests it follows.

A subscription is in place when the server has confirmed it. When the connection is lost,
every channel is subscribed again on the next one, and only then its handlers hear
``on_reset``, so that a log read after it misses nothing.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import structlog

from lore.store.base import Listener, OwnerListener, WakeListener
from lore.store.codec import message_from, position_message_from
from lore.store.connection import Link, forget

log = structlog.get_logger()


class Handler(Protocol):
    """Called on the event loop; must return at once."""

    def on_payload(self, payload: str) -> None: ...

    def on_reset(self) -> None: ...


@dataclass(slots=True)
class _Channel:
    sharded: bool
    confirmed: asyncio.Future[Any]
    handlers: list[Handler] = field(default_factory=list[Handler])


class Subscriptions(Link):
    kind = "subscriptions"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._channels: dict[str, _Channel] = {}

    async def subscribe(self, name: str, handler: Handler, *, sharded: bool = True) -> None:
        """Returns once the server has confirmed; raises StoreUnavailable."""
        if not self.is_up:
            raise self._away("is not connected")
        channel = self._channels.get(name)
        if channel is None:
            channel = _Channel(sharded, self.call(_subscribe(sharded), name))
            channel.confirmed.add_done_callback(forget)
            self._channels[name] = channel
        channel.handlers.append(handler)
        try:
            await asyncio.shield(channel.confirmed)
        except BaseException:
            self.unsubscribe(name, handler)
            raise

    def unsubscribe(self, name: str, handler: Handler) -> None:
        """After the last handler has gone, the server is told. Unknown handlers are ignored."""
        channel = self._channels.get(name)
        if channel is None or handler not in channel.handlers:
            return
        channel.handlers.remove(handler)
        if channel.handlers:
            return
        del self._channels[name]
        if self.is_up:
            command = "SUNSUBSCRIBE" if channel.sharded else "UNSUBSCRIBE"
            self._send(command, name).add_done_callback(forget)

    async def _on_up(self) -> None:
        for name, channel in self._channels.items():
            channel.confirmed = self._send(_subscribe(channel.sharded), name)
            channel.confirmed.add_done_callback(forget)
        channels = list(self._channels.values())
        await asyncio.gather(*(channel.confirmed for channel in channels))
        for channel in channels:
            for handler in tuple(channel.handlers):
                _guarded(handler.on_reset)

    def _receive(self, reply: Any) -> None:
        if type(reply) is not list or reply[0] not in ("smessage", "message"):
            super()._receive(reply)  # an answer, and answers come in order
            return
        _, name, payload = cast("list[str]", reply)
        if channel := self._channels.get(name):
            for handler in tuple(channel.handlers):
                _guarded(handler.on_payload, payload)


def _subscribe(sharded: bool) -> str:
    return "SSUBSCRIBE" if sharded else "SUBSCRIBE"


def _guarded(call: Any, *args: Any) -> None:
    """One handler's error must not take the others' messages with it."""
    try:
        call(*args)
    except Exception:
        log.exception("subscription_handler_failed")


# What comes in on a channel, for whom it is.


@dataclass(frozen=True, slots=True)
class ReaderHandler:
    listener: Listener

    def on_payload(self, payload: str) -> None:
        self.listener.on_message(message_from(payload))

    def on_reset(self) -> None:
        self.listener.on_reset()


@dataclass(frozen=True, slots=True)
class OwnerHandler:
    listener: OwnerListener

    def on_payload(self, payload: str) -> None:
        self.listener.on_position(position_message_from(payload))

    def on_reset(self) -> None:
        """Nothing to do: an owner's renewals tell it what it missed."""


@dataclass(frozen=True, slots=True)
class WakeHandler:
    listener: WakeListener

    def on_payload(self, payload: str) -> None:
        self.listener.on_wake(int(payload))

    def on_reset(self) -> None:
        self.listener.on_wake(None)
