"""One reader's stream on one edge: what is written, sent again and given up on (P10 to P12)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lore.protocol.lifecycle import ENDED, Status
from lore.protocol.sender import Action, Sender, SenderConfig
from lore.store.base import ChunkMessage
from tests.sim.world import Node, Timer

if TYPE_CHECKING:
    from tests.sim.feed import Feed

HEARTBEAT_S = 10.0
PAGE_CHUNKS = 16


@dataclass(frozen=True, slots=True)
class ChunkEvent:
    seq: int
    text: str
    tokens: int
    log_id: str


@dataclass(frozen=True, slots=True)
class StateEvent:
    status: Status
    window: int
    log_id: str


@dataclass(frozen=True, slots=True)
class EndEvent:
    last_seq: int
    log_id: str


@dataclass(frozen=True, slots=True)
class Comment:
    pass


@dataclass(frozen=True, slots=True)
class Closed:
    """The connection ended, and the reader's TCP says so."""


StreamEvent = ChunkEvent | StateEvent | EndEvent | Comment | Closed


class Connection:
    def __init__(
        self,
        feed: "Feed",
        reader: Node,
        position: int,
        log_id: str,
        hear: Callable[["Connection", StreamEvent], None],
        spacing_s: float,
    ) -> None:
        self.feed = feed
        self.reader = reader
        self.log_id = log_id
        self.sender = Sender(SenderConfig(), position=position)
        self._edge = feed.edge
        self._acks = feed.view.ack == "client"
        self._reader_incarnation = reader.incarnation
        self._hear = hear
        self._spacing_s = spacing_s
        self._socket_chunks = feed.edge.world.options.socket_chunks
        self._start = position
        self._texts: dict[int, tuple[str, int]] = {}
        self._unread = 0
        self._reading = False
        self._ended = False
        self._closed = False
        self._told = Status.GENERATING
        self._arrival = 0.0
        self._timer = Timer(self._edge, self._on_timer)
        self._edge.world.after(HEARTBEAT_S, self._edge, self._heartbeat)

    def on_next(self, before: int, message: ChunkMessage) -> None:
        """A live chunk follows the feed's head: who had that gets it as it comes (P10)."""
        idle = not self._closed and not self._reading and self._unread < self._socket_chunks
        if idle and self.sender.position == before and self.log_id == self.feed.view.log_id:
            self._send_chunk(message.seq, message.text, message.tokens)
        self.pump()

    def pump(self) -> None:
        """Send what follows, from the ring or the log; a full socket waits for its reader."""
        feed, view = self.feed, self.feed.view
        while not self._closed and not self._reading and self._unread < self._socket_chunks:
            seq = self.sender.position + 1
            if seq > feed.head or self.log_id != view.log_id:
                break
            piece = feed.ring.get(seq)
            if piece is None:
                self._read()
                break
            self._send_chunk(seq, *piece)
        self._say_state()
        self._arm()

    def _arm(self) -> None:
        """Only a reader that acks is sent anything again (P11)."""
        if self._acks:
            self._timer.arm(self.sender.deadline())

    def _read(self) -> None:
        self._reading = True
        self._edge.store.call(
            self._edge,
            self._on_log,
            "read",
            self.feed.request_id,
            after=self.sender.position,
            limit=PAGE_CHUNKS,
        )

    def _on_log(self, messages: list[ChunkMessage] | None) -> None:
        self._reading = False
        view = self.feed.view
        if not messages or self._closed:
            if not self._closed:
                self.feed.look()
            return
        for message in messages:
            if message.seq > view.shared(message.log_id):
                self.feed.look()
                return
            if self.log_id != view.log_id:
                return
            if message.seq == self.sender.position + 1:
                self._send_chunk(message.seq, message.text, message.tokens)
        self.pump()

    def _send_chunk(self, seq: int, text: str, tokens: int) -> None:
        self._edge.store.safety.on_sent(self, self._start, seq)
        self._texts[seq] = text, tokens
        self.sender.on_sent(seq, self._edge.world.now)
        self._write(ChunkEvent(seq, text, tokens, self.log_id))

    def _say_state(self) -> None:
        view = self.feed.view
        if self._closed or self.log_id != view.log_id:
            return
        if view.status in ENDED and self.sender.position == view.next_seq - 1:
            if not self._ended:
                self._ended = True
                self._write(EndEvent(view.next_seq - 1, view.log_id))
            if self.sender.oldest is None or not self._acks:
                self.close()
        else:
            self._ended = False
            if view.status is Status.REAPED or view.status is not self._told:
                self._told = view.status
                self._write(StateEvent(view.status, view.window, view.log_id))

    def on_acked(self, seq: int) -> None:
        self.sender.on_ack(seq, self._edge.world.now)
        for old in [old for old in self._texts if old <= seq]:
            del self._texts[old]
        self.pump()
        self._arm()

    def _on_timer(self) -> None:
        if self._closed:
            return
        action = self.sender.on_timer(
            self._edge.world.now, socket_pending=self._unread >= self._socket_chunks
        )
        if action is Action.CLOSE:
            self.close()
            return
        if action is Action.RETRANSMIT:
            self._edge.world.injected["retransmit (seen)"] += 1
            seq = self.sender.oldest
            assert seq is not None
            self._write(ChunkEvent(seq, *self._texts[seq], self.log_id))
        self._arm()

    def _heartbeat(self) -> None:
        if not self._closed:
            self._write(Comment())
            self._edge.world.after(HEARTBEAT_S, self._edge, self._heartbeat)

    def close(self) -> None:
        """End the connection; a reader that can be reached hears of it."""
        if not self._closed:
            self._write(Closed())
            self.abandon()

    def abandon(self) -> None:
        self._closed = True
        self._timer.arm(None)
        if self in self.feed.connections:
            self.feed.connections.remove(self)
            self._edge.on_left(self.feed)

    # the way to the reader

    def _write(self, event: StreamEvent) -> None:
        edge, world = self._edge, self._edge.world
        options = world.options
        if self.reader.incarnation != self._reader_incarnation or world.is_cut(edge, self.reader):
            return
        droppable = not isinstance(event, Closed)
        if droppable and world.chance(options.event_loss, "event lost"):
            return
        when = max(world.now + world.far_delay_s(), self._arrival)
        if isinstance(event, ChunkEvent) and self._spacing_s:
            when = max(when, self._arrival + self._spacing_s)
        if droppable and world.chance(options.event_reordering, "event reordered"):
            when += world.random.uniform(0.0, 1.0)
        else:
            self._arrival = when
        self._deliver(event, when)
        if droppable and world.chance(options.event_duplication, "event doubled"):
            self._deliver(event, when + world.random.uniform(0.0, 1.0))

    def _deliver(self, event: StreamEvent, when: float) -> None:
        if isinstance(event, ChunkEvent):
            self._unread += 1
        self._edge.world.at(when, self.reader, self._arrive, event)

    def _arrive(self, event: StreamEvent) -> None:
        if isinstance(event, ChunkEvent):
            self._unread -= 1
            if self._unread == self._socket_chunks - 1 and self._edge.up:
                self._edge.world.after(0.0, self._edge, self.pump)
        self._hear(self, event)
