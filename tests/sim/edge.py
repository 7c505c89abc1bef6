"""An edge's shell: creates requests, connects readers, takes acks. It keeps nothing that
another edge would miss."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from lore.protocol.commands import Ack, Cancel, Readers, Revive
from lore.protocol.delivery import Opening
from lore.protocol.restores import Restores
from lore.store.base import Message, NewRequest, Opened, Outcome, Position
from lore.store.keys import PARTITIONS, partition_of
from lore.store.types import Open
from tests.sim.connection import Connection, StreamEvent
from tests.sim.feed import FOLLOWER, Feed
from tests.sim.store import StoreNode
from tests.sim.world import Node, World

UNANSWERED = 503
"""What an edge answers when the store is away."""


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    log_id: str = ""
    connection: Connection | None = None
    last_seq: int = 0
    window: int = 0


Answer = Callable[[Reply | None], None]


class Edge(Node):
    def __init__(self, world: World, name: str, store: StoreNode) -> None:
        super().__init__(world, name)
        self.store = store
        self.feeds: dict[str, Feed] = {}
        self._restores = Restores(FOLLOWER.restore_grace_s)
        self._notice()
        store.clients.append(self)

    def crash(self) -> None:
        self.world.say(f"{self.name} crashed")
        connections = [c for feed in self.feeds.values() for c in list(feed.connections)]
        for connection in connections:
            if self.world.random.random() < 0.5:
                connection.close()
            else:
                connection.abandon()  # its machine went with it, silently
        super().crash()
        self.feeds.clear()

    def start(self) -> None:
        self.up = True
        self._restores = Restores(FOLLOWER.restore_grace_s)
        self._notice()

    def _notice(self) -> None:
        state = self.store.state
        for partition in range(PARTITIONS):
            self._restores.notice(partition, state.run_id, self.world.now)

    def on_store_reset(self) -> None:
        self._notice()
        for feed in list(self.feeds.values()):
            feed.on_reset()

    def on_message(self, request_id: str, message: Message) -> None:
        if feed := self.feeds.get(request_id):
            feed.on_message(message)

    # what readers ask, each with one reply

    def create(self, new: NewRequest, answer: Callable[[Reply], None]) -> None:
        def opened(opened: Opened | None) -> None:
            if opened is None or opened.view is None:
                answer(Reply(UNANSWERED))
            else:
                answer(Reply(201, opened.view.log_id))

        self.store.call(self, opened, Open(new, queue_limit=99))

    def ack(self, request_id: str, seq: int, answer: Callable[[Reply], None]) -> None:
        def acked(position: Position | None) -> None:
            if position is None:
                answer(Reply(UNANSWERED))
            elif position.outcome is Outcome.OK:
                if feed := self.feeds.get(request_id):
                    feed.on_acked(position.acked_seq)
                answer(Reply(204))
            else:
                answer(Reply(409 if position.outcome is Outcome.AHEAD else 404))

        self.store.call(self, acked, Ack(request_id, seq))

    def revive(self, request_id: str, answer: Callable[[Reply], None]) -> None:
        self._change(Revive(request_id), answer)

    def cancel(self, request_id: str, answer: Callable[[Reply], None]) -> None:
        self._change(Cancel(request_id, retention_ms=1_000_000), answer)

    def _change(self, command: Revive | Cancel, answer: Callable[[Reply], None]) -> None:
        def changed(position: Position | None) -> None:
            if position is None:
                answer(Reply(UNANSWERED))
            else:
                answer(Reply(204 if position.outcome is Outcome.OK else 409))

        self.store.call(self, changed, command)

    def connect(
        self,
        reader: Node,
        request_id: str,
        position: int,
        log_id: str,
        hear: Callable[[Connection, StreamEvent], None],
        spacing_s: float,
        answer: Callable[[Reply], None],
    ) -> None:
        """Subscribe and look, judge, and only then stream (P4); look again (P12)."""
        feed = self.feeds.get(request_id)
        if feed is None:
            run_id = self.store.state.run_id
            wait_s = self._restores.wait_s(partition_of(request_id), run_id, self.world.now)
            feed = self.feeds[request_id] = Feed(self, request_id, wait_s)

        feed.follower.on_readers(self.world.now, some=True)

        def opened(done: bool) -> None:
            if not done:
                answer(Reply(UNANSWERED))
                return
            if feed.follower.gone:
                answer(Reply(410 if feed.follower.lost and position else 404))
                self.on_left(feed)
                return
            connection = Connection(feed, reader, position, log_id, hear, spacing_s)
            if connection.delivery.opening(asked=True) is Opening.LOST:
                feed.look(partial(judged, connection))  # the reader's log may be news here (P4)
            else:
                judged(connection, True)

        def judged(connection: Connection, done: bool) -> None:
            view, opening = feed.view, connection.delivery.opening(asked=True)
            if not done:
                answer(Reply(UNANSWERED))
            elif opening is Opening.STREAM:
                feed.connections.append(connection)
                answer(Reply(200, view.log_id, connection, window=view.window))
                connection.begin(position)
                return
            else:
                status = 410 if opening is Opening.LOST else 204
                answer(Reply(status, view.log_id, last_seq=position))
            self.on_left(feed)

        feed.opening.append(opened)
        feed.carry_out()

    def on_left(self, feed: Feed) -> None:
        if not feed.is_used:
            self.close_feed(feed)

    def close_feed(self, feed: Feed) -> None:
        if self.feeds.get(feed.request_id) is feed:
            del self.feeds[feed.request_id]
            if feed.follower.is_left_unread:
                self.store.call(self, lambda _: None, Readers(feed.request_id, "left"))
            self.store.unfollow(self, feed.request_id)
            feed.close()
