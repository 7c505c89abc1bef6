"""One reader's stream on one edge: what is written, sent again and given up on (P10 to P12)."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lore.protocol.delivery import Delivery, DeliveryConfig, Step
from lore.protocol.follower_types import Acked, Command, StateChange
from lore.protocol.lifecycle import Status
from lore.protocol.sender import Action, Sender, SenderConfig
from lore.store.base import ChunkMessage
from tests.sim.world import Node, Timer

if TYPE_CHECKING:
    from tests.sim.feed import Feed

DELIVERY = DeliveryConfig(heartbeat_s=10.0)
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


@dataclass(frozen=True, slots=True)
class ErrorEvent:
    """``history_lost``, or the request is no longer kept: final."""

    step: Step


StreamEvent = ChunkEvent | StateEvent | EndEvent | ErrorEvent | Comment | Closed


class Connection:
    """Carries out what its ``Delivery`` decides, over a network that may lose events."""

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
        self._edge = feed.edge
        acks = feed.view.ack == "client"
        self.delivery = Delivery[ChunkMessage](
            DELIVERY,
            feed.follower,
            position=position,
            log_id=log_id or feed.view.first_log_id,
            sender=Sender(SenderConfig(), position=position) if acks else None,
            returns=True,
            repeats_text=False,
            now=feed.edge.world.now,
        )
        self._reader_incarnation = reader.incarnation
        self._hear = hear
        self._spacing_s = spacing_s
        self._socket_chunks = feed.edge.world.options.socket_chunks
        self._start = position
        self._unread: deque[int] = deque()
        """The chunks on their way."""
        self._again: set[int] = set()
        self._busy = False
        """A call of the store for this reader is under way."""
        self._closed = False
        self._arrival = 0.0
        self._timer = Timer(self._edge, self.pump)

    def begin(self, position: int) -> None:
        view = self.feed.view
        self._write(StateEvent(view.status, view.window, view.log_id))
        if position:
            self.feed.follower.on_resumed(position, self._edge.world.now)
            self.feed.carry_out()
        self.pump()

    # from the feed

    def on_told(self, command: Command) -> None:
        now = self._edge.world.now
        match command:
            case StateChange(status, reason):
                self.delivery.on_state(status, reason)
                self.pump()
            case Acked(seq):
                _, looks = self.delivery.on_acked(seq, now)
                if looks:
                    self.pump()
                else:
                    self._arm()
            case _:
                self.pump()

    def on_chunk(self, piece: ChunkMessage) -> None:
        """The live path, or all that is due."""
        is_idle = not self._closed and not self._busy and not self._is_full
        if is_idle and self.delivery.pass_on(piece.seq, self._edge.world.now):
            self._edge.store.safety.on_sent(self, self._start, piece.seq)
            self._write_chunk(piece)
            self._arm()
        else:
            self.pump()

    # what is due

    @property
    def _is_full(self) -> bool:
        return len(self._unread) >= self._socket_chunks

    def _at_hand(self) -> bool:
        return self.delivery.position + 1 in self.feed.ring

    def pump(self) -> None:
        """Do what is due; a full socket waits for its reader."""
        while not self._closed and not self._busy and not self._is_full:
            match step := self.delivery.next(self._edge.world.now, at_hand=self._at_hand()):
                case Step.SEND:
                    self._take()
                case Step.LOAD:
                    self._load()
                case Step.CHECK:
                    self._busy = True
                    self.feed.look(self._checked)
                case Step.HEARTBEAT:
                    self._write(Comment())
                    self.delivery.on_written([], self._edge.world.now)
                case Step.LOST | Step.GONE:
                    self._write(ErrorEvent(step))
                    self.close()
                case _:
                    break
        self._arm()

    def _arm(self) -> None:
        waits = not (self._closed or self._busy or self._is_full)
        self._timer.arm(self.delivery.deadline(at_hand=self._at_hand()) if waits else None)

    def _take(self) -> None:
        delivery, view = self.delivery, self.feed.view
        states, delivery.states = delivery.states, []
        for status, _ in states:
            self._write(StateEvent(status, view.window, view.log_id))
        room = self._socket_chunks - len(self._unread)
        pieces = delivery.loaded[:room]
        del delivery.loaded[:room]
        seq = pieces[-1].seq if pieces else delivery.position
        while len(pieces) < room and (piece := self.feed.ring.get(seq := seq + 1)) is not None:
            pieces.append(piece)
        self._send(pieces)
        if delivery.is_at_end:
            self._write(EndEvent(view.next_seq - 1, view.log_id))
            self.close()

    def _send(self, pieces: list[ChunkMessage]) -> None:
        for piece in pieces:
            self._edge.store.safety.on_sent(self, self._start, piece.seq)
            self.delivery.on_taken(piece.seq)
            self._write_chunk(piece)
        self.delivery.on_written(pieces, self._edge.world.now)

    def _load(self) -> None:
        self._busy = True
        after = self.delivery.position

        def loaded(messages: list[ChunkMessage] | None) -> None:
            self._busy = False
            now = self._edge.world.now
            whole = self.feed.follower.judge_page(after, messages or [], now) if messages else []
            self.delivery.on_page(list(whole), now)
            self.feed.carry_out()
            self.pump()

        self._edge.store.read(self._edge, loaded, self.feed.request_id, after, PAGE_CHUNKS)

    def _checked(self, done: bool) -> None:
        self._busy = False
        if self._closed:
            return
        arrived = self._unread[0] - 1 if self._unread else self.delivery.position
        action = self.delivery.on_checked(self._edge.world.now, away=not done, arrived=arrived)
        if action is Action.CLOSE:
            self.close()
            return
        if isinstance(action, int):
            # Of those sent again the edge does not know where in the socket they are.
            waits = action in self._unread and action not in self._again
            self._again.add(action)
            self._edge.store.safety.expect(not waits, "P11", f"{action} waits in the socket")
            self._send_again(action)
        self.pump()

    def _send_again(self, seq: int) -> None:
        if (piece := self.feed.ring.get(seq)) is not None:
            self._edge.world.injected["retransmit (seen)"] += 1
            self._write_chunk(piece)
            return

        def loaded(messages: list[ChunkMessage] | None) -> None:
            now = self._edge.world.now
            whole = self.feed.follower.judge_page(seq - 1, messages or [], now) if messages else []
            if whole and not self._closed and not self.delivery.loses_history():
                self._edge.world.injected["retransmit (seen)"] += 1
                self._write_chunk(whole[0])
            self.feed.carry_out()

        self._edge.store.read(self._edge, loaded, self.feed.request_id, seq - 1, 1)

    def _write_chunk(self, piece: ChunkMessage) -> None:
        view = self.feed.view
        self._write(ChunkEvent(piece.seq, piece.text, piece.tokens, view.log_id))

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
            self._unread.append(event.seq)
        self._edge.world.at(when, self.reader, self._arrive, event)

    def _arrive(self, event: StreamEvent) -> None:
        if isinstance(event, ChunkEvent):
            was_full = self._is_full
            self._unread.remove(event.seq)
            if was_full and not self._is_full and self._edge.up:
                self._edge.world.after(0.0, self._edge, self.pump)
        self._hear(self, event)
