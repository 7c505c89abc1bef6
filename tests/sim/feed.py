"""One request on one edge: carries out what its ``Follower`` decides."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from lore.protocol.commands import Ack, Readers
from lore.protocol.follower import Follower
from lore.protocol.follower_types import (
    Acknowledge,
    Call,
    Check,
    Clear,
    Command,
    FollowerConfig,
    Hole,
    ReadPage,
    ReadView,
    Return,
)
from lore.store.base import ChunkMessage, Message, View
from tests.sim.promptness import Promptness
from tests.sim.world import Timer

if TYPE_CHECKING:
    from tests.sim.connection import Connection
    from tests.sim.edge import Edge

RING_CHUNKS = 16
RETRY_S = 0.5
RESTORE_GRACE_S = 4.0
FOLLOWER = FollowerConfig(
    page_chunks=64,
    restore_grace_s=RESTORE_GRACE_S,
    look_every_s=5.0,
    unknown_retry_s=0.5,
    retry_s=0.2,
)


class Feed:
    def __init__(self, edge: "Edge", request_id: str, wait_s: float) -> None:
        self.edge = edge
        self.request_id = request_id
        self.connections: list[Connection] = []
        self.ring: dict[int, ChunkMessage] = {}
        self.opening: list[Callable[[bool], None]] = []
        """Who waits for it to be open, or for the reason why it is not."""
        self.follower = Follower(FOLLOWER, "", now=edge.world.now, wait_s=wait_s)
        self._looking: list[tuple[int, Callable[[bool], None]]] = []
        self._timer = Timer(edge, self._on_timer)
        self._prompt = Promptness(self)
        edge.world.after(0.0, edge, self._prompt.expect_again, FOLLOWER.look_every_s)
        edge.store.follow(edge, request_id, edge.on_message, self._on_first_subscription)
        self.carry_out()

    @property
    def view(self) -> View:
        return self.follower.view

    @property
    def is_used(self) -> bool:
        return bool(self.connections or self.opening or self._looking)

    @property
    def is_current(self) -> bool:
        return self.edge.feeds.get(self.request_id) is self

    # events

    def _on_first_subscription(self, done: bool | None) -> None:
        if not self.is_current:
            return
        if done is None:
            self.edge.close_feed(self)
            return
        self.follower.on_subscribed(self.edge.world.now)
        self._prompt.expect("has subscribed")
        self.carry_out()

    def on_message(self, message: Message) -> None:
        chunk = self.follower.on_message(message, self.edge.world.now)
        if chunk is not None:
            self._push(chunk)
            for connection in list(self.connections):
                connection.on_chunk(chunk)
            return
        is_open = self.follower.is_open
        if isinstance(message, ChunkMessage) and is_open and message.log_id == self.view.log_id:
            self._prompt.expect_chunk(message.log_id, message.seq)
        self.carry_out()

    def on_reset(self) -> None:
        """The connection to the store is back: the channel is subscribed again."""
        if not self.is_current:
            return

        def followed(done: bool | None) -> None:
            if not self.is_current:
                return
            if done is None:
                self.edge.world.after(RETRY_S, self.edge, self.on_reset)
            else:
                self.follower.on_reset(self.edge.world.now)
                self._prompt.expect("has subscribed anew")
                self.carry_out()

        self.edge.store.follow(self.edge, self.request_id, self.edge.on_message, followed)

    def on_acked(self, seq: int) -> None:
        self.follower.on_acked(seq)
        self.carry_out()

    def look(self, then: Callable[[bool], None]) -> None:
        """Read the view now; ``then`` hears whether that was possible."""
        number = self.follower.look(self.edge.world.now)
        self._looking.append((number, then))
        self.carry_out()
        self._looked(True)

    def _on_timer(self) -> None:
        self.follower.on_timer(self.edge.world.now)
        self.carry_out()

    # commands

    def carry_out(self) -> None:
        if not self.is_current:
            return
        while commands := self.follower.take():
            for command in commands:
                if isinstance(command, Call):
                    self._perform(command)
                else:
                    self._tell(command)
        if self.follower.is_open or self.follower.gone:
            self._opened(True)
        self._timer.arm(self.follower.deadline())

    def _tell(self, command: Command) -> None:
        match command:
            case Clear():
                self.edge.world.say(f"{self.edge.name} sees log {self.view.log_id}")
                self.ring.clear()
            case Hole(seq):
                self.edge.store.safety.fail("P2", f"a hole in the log at {seq}")
            case _:
                for connection in list(self.connections):
                    connection.on_told(command)

    def _perform(self, call: Call) -> None:
        edge, store, request_id = self.edge, self.edge.store, self.request_id
        match call:
            case ReadView():
                store.do(
                    edge,
                    self._on_look,
                    lambda now_ms: (
                        store.state.view(request_id, now_ms=now_ms),
                        store.state.run_id,
                    ),
                )
            case ReadPage(after, limit):
                store.read(edge, self._on_log, request_id, after, limit)
            case Check(after, limit):
                store.read(edge, self._on_checked, request_id, after, limit)
            case Acknowledge(seq):
                store.call(edge, self._on_acknowledged, Ack(request_id, seq))
            case Return():
                store.call(edge, self._on_returned, Readers(request_id, "back"))

    def _on_look(self, found: tuple[View | None, str] | None) -> None:
        if found is None:
            self._on_failed()
            return
        self.follower.on_view(*found, self.edge.world.now)
        if self.follower.gone and self.follower.lost:
            self.edge.store.safety.on_given_up(self.request_id, found[1], RESTORE_GRACE_S)
        self.carry_out()
        self._looked(True)

    def _on_log(self, messages: list[ChunkMessage] | None) -> None:
        if messages is None:
            self._on_failed()
            return
        for message in self.follower.on_log(messages, self.edge.world.now):
            self._push(message)
        self.carry_out()

    def _on_checked(self, messages: list[ChunkMessage] | None) -> None:
        if messages is None:
            self._on_failed()
            return
        self.follower.on_checked(messages, self.edge.world.now)
        self.carry_out()

    def _on_acknowledged(self, position: object) -> None:
        if position is None:
            self._on_failed()
            return
        self.follower.on_acknowledged(self.edge.world.now)
        self.carry_out()

    def _on_returned(self, position: object) -> None:
        if position is None:
            self._on_failed()
            return
        self.follower.on_returned(self.edge.world.now)
        self.carry_out()

    def _on_failed(self) -> None:
        self._prompt.on_failed()
        self.follower.on_failed(self.edge.world.now)
        if not self.follower.is_open:
            self.edge.close_feed(self)
            return
        self.carry_out()
        self._looked(False)

    def _looked(self, done: bool) -> None:
        ready = [then for number, then in self._looking if number <= self.follower.looks]
        self._looking = [one for one in self._looking if one[0] > self.follower.looks]
        for then in ready:
            then(done)

    def _opened(self, done: bool) -> None:
        while self.opening:  # those who still wait keep the feed open when one of them leaves
            self.opening.pop(0)(done)

    def close(self) -> None:
        """Nobody is served any more; who still waits is told to try again."""
        self._timer.arm(None)
        self._opened(False)
        for connection in list(self.connections):
            connection.close()

    def _push(self, message: ChunkMessage) -> None:
        self.ring[message.seq] = message
        if len(self.ring) > RING_CHUNKS:
            del self.ring[next(iter(self.ring))]
