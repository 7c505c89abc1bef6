"""The listeners of all channels, over one connection to each server.

A subscription is in place when its server has confirmed it. When the connection is lost, or the
partition moves to another server of a cluster, the channel is subscribed again. Only then do its
handlers hear ``on_reset``, so that a log read afterwards misses nothing. All channels are sharded:
a server sends only to subscribers, and has only the channels of its partitions.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog

from lore.store.types import StoreUnavailable
from lore.store.valkey.client.connection import Link, Parse, forget
from lore.store.valkey.client.replies import Redirected

log = structlog.get_logger()

PLACED_WITHIN_S = 5.0
"""How many seconds a new subscription looks for its server while its partition moves."""


class Handler(Protocol):
    """Handles a channel. Called on the event loop; must return at once."""

    def on_payload(self, payload: str) -> None: ...

    def on_reset(self) -> None:
        """The server was away, and it or another one is there now: anything may have been
        missed.
        """
        ...

    def on_moved(self) -> None:
        """Another server has the partition now: what was published meanwhile was missed."""
        ...


class Subscriber(Link):
    """A connection to one server for subscriptions."""

    kind = "subscriptions"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.subscriptions: Subscriptions | None = None
        self._asked: deque[tuple[str | int | bytes, ...]] = deque()

    def ask(self, verb: str, channel: str) -> asyncio.Future[Any]:
        """Send SSUBSCRIBE or SUNSUBSCRIBE. Raises StoreUnavailable."""
        return self._send(verb, channel)

    def _send(self, *command: str | int | bytes, parse: Parse | None = None) -> asyncio.Future[Any]:
        future = super()._send(*command, parse=parse)
        self._asked.append(command)
        return future

    def check(self) -> None:
        """Raises StoreUnavailable while there is no connection."""
        if not self.is_up:
            raise self._away("is not connected")

    async def _on_up(self) -> None:
        self._asked.clear()
        self.run_id = await self._primary()
        if self.subscriptions is not None:
            self.subscriptions.on_up(self)

    def _receive(self, reply: Any) -> None:
        """Take a reply. Answers come in order. Between them come messages, and notices that the
        server no longer has a channel.
        """
        if reply.__class__ is list and self.subscriptions is not None:
            kind, name, *rest = reply
            if kind == "smessage":
                return self.subscriptions.on_message(name, rest[0])
            expected = self._asked[0] if self._asked else ()
            if kind == "sunsubscribe" and expected != ("SUNSUBSCRIBE", name):
                return self.subscriptions.on_taken(self, name)
            if kind == "ssubscribe" and expected != ("SSUBSCRIBE", name):
                self._asked.clear()
        if not self._asked:
            # A notice and the answer to our own SUNSUBSCRIBE look alike. One was taken for the
            # other, and the following answers would be matched to the wrong commands.
            return self.drop()
        self._asked.popleft()
        return super()._receive(reply)


@dataclass(slots=True, eq=False)
class _Channel:
    name: str
    partition: int
    confirmed: asyncio.Future[None]
    handlers: list[Handler] = field(default_factory=list[Handler])
    link: Subscriber | None = None
    """The connection where it is subscribed, or was last asked for."""
    is_new: bool = True
    is_moving: bool = False
    """Its partition moved to another server while the old one was there."""


class Subscriptions:
    def __init__(
        self, links: Sequence[Subscriber], misplaced: Callable[[Subscriber], None]
    ) -> None:
        """``links`` has the connection of each partition, and may change. ``misplaced`` is called
        when a server refuses a channel or no longer has it. It must have ``place`` called, or the
        connection dropped.
        """
        self._links = links
        self._misplaced = misplaced
        self._channels: dict[str, _Channel] = {}
        self._unplaced: set[_Channel] = set()

    @property
    def is_placed(self) -> bool:
        """Whether no server has refused a channel since it was last asked for it."""
        return not self._unplaced

    def is_heard(self, name: str) -> bool:
        """Whether the channel's server has confirmed it and is connected."""
        channel = self._channels.get(name)
        if channel is None or channel.link is None or not channel.link.is_up:
            return False
        return channel.confirmed.done() and channel not in self._unplaced

    async def subscribe(
        self, partition: int, name: str, handler: Handler, *, must_be_up: bool = True
    ) -> None:
        """Return once the server has confirmed; raises StoreUnavailable. If the server is away and
        need not be up, return at once and subscribe when it is back.
        """
        link = self._links[partition]
        if must_be_up:
            link.check()
        channel = self._channels.get(name)
        if channel is None:
            confirmed = asyncio.get_running_loop().create_future()
            channel = self._channels[name] = _Channel(name, partition, confirmed)
            if link.is_up:
                self._ask(channel, link)
        channel.handlers.append(handler)
        if not (link.is_up or must_be_up):
            return
        try:
            async with asyncio.timeout(PLACED_WITHIN_S):
                await asyncio.shield(channel.confirmed)
        except BaseException as error:
            self.unsubscribe(name, handler)
            if isinstance(error, TimeoutError):
                raise StoreUnavailable(
                    f"no server of the store accepts the channel {name}"
                ) from None
            raise

    def unsubscribe(self, name: str, handler: Handler) -> None:
        """Remove a handler. The server is told after the last one. Unknown handlers are ignored."""
        channel = self._channels.get(name)
        if channel is None or handler not in channel.handlers:
            return
        channel.handlers.remove(handler)
        if channel.handlers:
            return
        del self._channels[name]
        self._unplaced.discard(channel)
        if channel.link is not None and channel.link.is_up:
            channel.link.ask("SUNSUBSCRIBE", name).add_done_callback(forget)

    def place(self) -> None:
        """Subscribe every channel at the server that now has its partition."""
        for channel in self._channels.values():
            link = self._links[channel.partition]
            if link.is_up and (channel.link is not link or channel in self._unplaced):
                before = channel.link
                channel.is_moving |= before is not None and before.is_up and before is not link
                self._ask(channel, link)

    # from the connections

    def on_up(self, link: Subscriber) -> None:
        for channel in self._channels.values():
            if self._links[channel.partition] is link:
                self._ask(channel, link)

    def on_message(self, name: str, payload: str) -> None:
        try:
            handlers = self._channels[name].handlers
        except KeyError:
            return
        for handler in tuple(handlers):
            try:  # every chunk comes this way, so it makes no call that it does not need
                handler.on_payload(payload)
            except Exception:
                log.exception("subscription handler failed")

    def on_taken(self, link: Subscriber, name: str) -> None:
        """The server no longer has this channel, because its partition moved away."""
        channel = self._channels.get(name)
        if channel is not None and channel.link is link:
            channel.is_moving = True
            self._unplaced.add(channel)
            self._misplaced(link)

    def _ask(self, channel: _Channel, link: Subscriber) -> None:
        self._unplaced.discard(channel)
        channel.link = link
        if channel.confirmed.done():
            channel.confirmed = asyncio.get_running_loop().create_future()
        reply = link.ask("SSUBSCRIBE", channel.name)
        reply.add_done_callback(lambda reply: self._on_reply(channel, link, reply))

    def _on_reply(self, channel: _Channel, link: Subscriber, reply: asyncio.Future[Any]) -> None:
        error = None if reply.cancelled() else reply.exception()
        if channel.link is not link or self._channels.get(channel.name) is not channel:
            return  # it was unsubscribed, or is subscribed elsewhere
        if error is None:
            if not channel.confirmed.done():
                channel.confirmed.set_result(None)
            for handler in () if channel.is_new else tuple(channel.handlers):
                _guarded(handler.on_moved if channel.is_moving else handler.on_reset)
            channel.is_new = channel.is_moving = False
        elif isinstance(error, Redirected) or not channel.is_new:
            if link.is_up:  # otherwise it is subscribed when the connection is back
                self._unplaced.add(channel)
                self._misplaced(link)
        elif not channel.confirmed.done():
            channel.confirmed.set_exception(error)
            forget(channel.confirmed)


def _guarded(call: Any, *args: Any) -> None:
    """Call a handler. Its error must not keep messages from the others."""
    try:
        call(*args)
    except Exception:
        log.exception("subscription handler failed")
