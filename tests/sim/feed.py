"""One request on one edge: subscribed, then looked at, shared by its connections."""

from typing import TYPE_CHECKING

from lore.protocol.lifecycle import ENDED
from lore.protocol.merge import Arrival, Merge
from lore.store.base import AckMessage, ChunkMessage, Message, Outcome, Position, View
from tests.sim.world import Timer

if TYPE_CHECKING:
    from tests.sim.connection import Connection
    from tests.sim.edge import Edge

RING_CHUNKS = 16
PAGE_CHUNKS = 64
LOOK_AGAIN_S = 0.02
LOOK_EVERY_S = 5.0
RETRY_S = 0.5
RESTORE_GRACE_S = 4.0


class Feed:
    def __init__(self, edge: "Edge", request_id: str, view: View) -> None:
        self.edge = edge
        self.request_id = request_id
        self.view = view
        self.connections: list[Connection] = []
        self.ring: dict[int, tuple[str, int]] = {}
        self._merge = Merge(view.next_seq - 1)
        self._looking = False
        self._look_again = False
        self._reacking = False
        self._unknown_since: float | None = None
        self._timer = Timer(edge, self.look)
        self._timer.arm(edge.world.now + LOOK_AGAIN_S)  # unless another look comes first

    @property
    def head(self) -> int:
        return self._merge.head

    # live

    def on_message(self, message: Message) -> None:
        if isinstance(message, ChunkMessage):
            if message.seq > self.view.shared(message.log_id):
                self.look()
                return
            before = self.head
            arrival = self._merge.on_live(message.seq)
            if arrival is Arrival.NEXT:
                self._push(message)
                for connection in list(self.connections):
                    connection.on_next(before, message)
            elif arrival is Arrival.GAP:
                self.look()
        elif isinstance(message, AckMessage):
            self.on_acked(message.acked_seq)
        elif message.reason not in ("paused", "resumed"):
            self.look()

    def on_reset(self) -> None:
        if self.edge.feeds.get(self.request_id) is not self:
            return
        self._merge.on_reset()

        def followed(done: bool | None) -> None:
            if done:
                self.look()
            else:
                self.edge.world.after(RETRY_S, self.edge, self.on_reset)

        self.edge.store.follow(self.edge, self.request_id, self.edge.on_message, followed)

    def on_acked(self, seq: int) -> None:
        for connection in self.connections:
            connection.on_acked(seq)

    def _push(self, message: ChunkMessage) -> None:
        self.ring[message.seq] = message.text, message.tokens
        if len(self.ring) > RING_CHUNKS:
            del self.ring[next(iter(self.ring))]

    def pump(self) -> None:
        for connection in list(self.connections):
            connection.pump()

    # reading the view, and the log while it holds more

    def look(self) -> None:
        """Read the view and what is missing of the log; one read at a time."""
        if self.edge.feeds.get(self.request_id) is not self:
            return
        if self._looking:
            self._look_again = True
            return
        self._looking = True
        self._look_again = False
        self.edge.store.view(self.edge, self._on_view, self.request_id)

    def _on_view(self, found: tuple[View | None] | None) -> None:
        if found is None:
            self._looking = False
            self._timer.arm(self.edge.world.now + RETRY_S)
            return
        view = found[0]
        if view is None:
            self._on_unknown()
            return
        self._unknown_since = None
        self._reconcile(view)
        if view.next_seq - 1 > self.head:
            self._read()
        else:
            self._looked()

    def _on_unknown(self) -> None:
        """Its owner may be about to give it back (P3)."""
        self._looking = False
        now = self.edge.world.now
        if self._unknown_since is None:
            self._unknown_since = now
        if now < self._unknown_since + RESTORE_GRACE_S:
            self._timer.arm(now + RETRY_S)
        else:
            self.edge.close_feed(self)  # a reader that connects anew is told why

    def _read(self) -> None:
        after = self._merge.start_read()
        self.edge.store.call(
            self.edge, self._on_log, "read", self.request_id, after=after, limit=PAGE_CHUNKS
        )

    def _on_log(self, messages: list[ChunkMessage] | None) -> None:
        if messages is None:
            self._merge.on_reset()
            self._looking = False
            self._timer.arm(self.edge.world.now + RETRY_S)
            return
        for message in messages:
            if message.seq > self.view.shared(message.log_id):
                self._look_again = True
                break
            arrival = self._merge.on_log(message.seq)
            if arrival is Arrival.NEXT:
                self._push(message)
            elif arrival is Arrival.GAP:
                self.edge.store.safety.fail("P2", f"a hole in the log before {message.seq}")
        self.pump()
        if self._merge.missing and messages and not self._look_again:
            self._read()
        else:
            self._looked()

    def _looked(self) -> None:
        self._looking = False
        self._timer.arm(self.edge.world.now + LOOK_EVERY_S)
        if self._look_again:
            self.look()

    def _reconcile(self, view: View) -> None:
        """Take a newer view: a fork, a log that fell behind, an end, a reaping."""
        if view.log_id != self.view.log_id:
            self.edge.world.say(f"{self.edge.name} sees log {view.log_id} of {self.request_id}")
            self.ring.clear()
            shared = view.shared(self.view.log_id)
            self._merge = Merge(min(self.head, shared, view.next_seq - 1))
        elif view.next_seq - 1 < self.head:
            self._merge = Merge(view.next_seq - 1)  # the store forgot; its owner sends again
        self.view = view
        for connection in list(self.connections):
            past_end = view.status in ENDED and connection.sender.position >= view.next_seq
            if past_end or not self._may_continue(connection, view):
                connection.close()  # it comes back with what it really has, and is judged
            else:
                connection.log_id = view.log_id
        self.pump()
        self.say_acks_again()

    @staticmethod
    def _may_continue(connection: "Connection", view: View) -> bool:
        log_id = connection.log_id or view.first_log_id
        return connection.sender.position <= view.shared(log_id)

    def say_acks_again(self) -> None:
        """The store forgot acks that our readers will not repeat: they have nothing new (P9)."""
        acked = max((connection.sender.acked for connection in self.connections), default=0)
        acked = min(acked, self.view.next_seq - 1)
        if acked > self.view.acked_seq and not self._reacking:
            self._reacking = True

            def answer(position: Position | None) -> None:
                self._reacking = False
                if position is not None and position.outcome is Outcome.OK:
                    self.on_acked(position.acked_seq)

            self.edge.store.call(self.edge, answer, "ack", self.request_id, acked)
