"""Routes what arrives on a channel to its listeners."""

from dataclasses import dataclass

from lore.store.base import Listener, OwnerListener, WakeListener
from lore.store.valkey.codec import message_from, news_from


@dataclass(frozen=True, slots=True)
class ReaderHandler:
    listener: Listener

    def on_payload(self, payload: str) -> None:
        self.listener.on_message(message_from(payload))

    def on_reset(self) -> None:
        self.listener.on_reset()

    def on_moved(self) -> None:
        self.listener.on_reset()


@dataclass(frozen=True, slots=True)
class OwnerHandler:
    listener: OwnerListener

    def on_payload(self, payload: str) -> None:
        self.listener.on_news(news_from(payload))

    def on_reset(self) -> None:
        """Nothing to do: an owner's renewals tell it what it missed."""

    def on_moved(self) -> None:
        """Nothing to do, for the same reason."""


class OwnHandler:
    """Handles a channel whose subscriber alone shows that this process lives."""

    def on_payload(self, payload: str) -> None: ...

    def on_reset(self) -> None: ...

    def on_moved(self) -> None: ...


@dataclass(frozen=True, slots=True)
class WakeHandler:
    listener: WakeListener
    partition: int

    def on_payload(self, payload: str) -> None:
        self.listener.on_wake(int(payload))

    def on_reset(self) -> None:
        self.listener.on_wake(None)

    def on_moved(self) -> None:
        """No server was away, so leases ran on: only a wake-up may be missed."""
        self.listener.on_wake(self.partition)
