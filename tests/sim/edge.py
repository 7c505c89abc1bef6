"""An edge's shell: creates requests, connects readers, takes acks. It keeps nothing that
another edge would miss."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lore.protocol.lifecycle import ENDED
from lore.store.base import Message, NewRequest, Opened, Outcome, Position, View
from tests.sim.connection import Connection, StreamEvent
from tests.sim.feed import RESTORE_GRACE_S, RETRY_S, Feed
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
        self.connecting: Counter[str] = Counter()
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
        self.connecting.clear()

    def start(self) -> None:
        self.up = True

    def on_store_reset(self) -> None:
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

        state = self.store.state
        self.store.do(self, opened, lambda now_ms: state.open(new, queue_limit=99, now_ms=now_ms))

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

        self.store.call(self, acked, "ack", request_id, seq)

    def revive(self, request_id: str, answer: Callable[[Reply], None]) -> None:
        self._change(request_id, "revive", answer)

    def cancel(self, request_id: str, answer: Callable[[Reply], None]) -> None:
        self._change(request_id, "cancel", answer, retention_ms=1_000_000)

    def _change(
        self, request_id: str, method: str, answer: Callable[[Reply], None], **kwargs: int
    ) -> None:
        def changed(position: Position | None) -> None:
            if position is None:
                answer(Reply(UNANSWERED))
            else:
                answer(Reply(204 if position.outcome is Outcome.OK else 409))

        self.store.call(self, changed, method, request_id, **kwargs)

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

        self.connecting[request_id] += 1
        give_up = self.world.now + RESTORE_GRACE_S * self.store.safety.may_forget
        arrived: dict[str, Any] = {}

        def look() -> None:
            self.store.view(self, looked, request_id)

        def looked(found: tuple[View | None] | None) -> None:
            if found == (None,) and self.world.now < give_up:
                self.world.after(RETRY_S, self, look)
                return
            arrived["look"] = found
            joined()

        def subscribed(done: bool | None) -> None:
            arrived["subscription"] = done
            joined()

        def joined() -> None:
            if len(arrived) < 2:
                return
            self.connecting[request_id] -= 1
            found = arrived["look"]
            if found is None or not arrived["subscription"]:
                answer(Reply(UNANSWERED))
                return
            view = found[0]
            if view is None:
                answer(Reply(404))
                return
            if (refusal := _refusal(view, position, log_id)) is not None:
                answer(refusal)
                return
            feed = self.feeds.get(request_id)
            if feed is None:
                feed = self.feeds[request_id] = Feed(self, request_id, view)
            connection = Connection(feed, reader, position, view.log_id, hear, spacing_s)
            feed.connections.append(connection)
            answer(Reply(200, view.log_id, connection, window=view.window))
            if feed.view != view:
                feed.look()
            feed.say_acks_again()
            connection.pump()

        self.store.follow(self, request_id, self.on_message, subscribed)
        look()

    def on_left(self, feed: Feed) -> None:
        if not feed.connections:
            self.close_feed(feed)

    def close_feed(self, feed: Feed) -> None:
        if self.feeds.get(feed.request_id) is feed:
            del self.feeds[feed.request_id]
            if not self.connecting[feed.request_id]:  # else another feed counts on it
                self.store.unfollow(self, feed.request_id)
            for connection in list(feed.connections):
                connection.close()


def _refusal(view: View, position: int, log_id: str) -> Reply | None:
    ended = view.status in ENDED
    if position > view.shared(log_id) or (ended and position >= view.next_seq):
        return Reply(410, view.log_id)
    if ended and position == view.next_seq - 1:
        return Reply(204, view.log_id, last_seq=position)
    return None
