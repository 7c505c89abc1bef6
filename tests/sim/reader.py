"""A reader's shell: asks, reads, acknowledges, comes back after any loss to any edge."""

from collections.abc import Sequence
from functools import partial

from lore.protocol.lifecycle import Status
from lore.store.base import NewRequest
from lore_client.protocol.receiver import Receiver, ReceiverConfig
from tests.sim.checkers import Safety
from tests.sim.connection import (
    ChunkEvent,
    Closed,
    Comment,
    Connection,
    EndEvent,
    ErrorEvent,
    StateEvent,
    StreamEvent,
)
from tests.sim.edge import Edge, Reply
from tests.sim.world import Node, Timer, World

SILENCE_S = 25.0
RETRY_S = 0.5


class Reader(Node):
    def __init__(
        self, world: World, name: str, safety: Safety, edges: Sequence[Edge], new: NewRequest
    ) -> None:
        super().__init__(world, name)
        self.request_id = new.request_id
        self.present = True
        self.expected = False
        """It vanished, or will, and comes back after."""
        self.complete = False
        self.lost = ""
        """Why there is nothing more to read, told explicitly (P4)."""
        self.text = ""
        self.receiver = Receiver(ReceiverConfig())
        self.spacing_s = 0.0
        self._safety = safety
        self._edges = edges
        self._new = new
        self._acks = new.ack == "client"
        self._connection: Connection | None = None
        self._connecting = False
        self._early: list[tuple[Connection, StreamEvent]] = []
        self._reviving = False
        self._ack_timer = Timer(self, self._ack)
        self._gap_timer = Timer(self, self._on_gap)
        self._silence = Timer(self, self._reconnect)
        self._retry = Timer(self, self._connect)

    @property
    def satisfied(self) -> bool:
        return self.complete or bool(self.lost) or not (self.present or self.expected)

    def _edge(self) -> Edge:
        return self.world.random.choice(self._edges)

    # asking

    def ask(self) -> None:
        """POST until there is an answer: the same request however often (P17)."""
        edge = self._edge()
        self.world.ask(self, edge, partial(edge.create, self._new), self._on_created)

    def _on_created(self, reply: Reply | None) -> None:
        if reply is None or reply.status != 201:
            self.world.after(RETRY_S, self, self.ask)
        else:
            self.receiver.log_id = self.receiver.log_id or reply.log_id
            self._connect()

    # connecting

    def _connect(self) -> None:
        if self.satisfied or self._connecting or not self.present:
            return
        self._connecting = True
        edge = self._edge()
        position, log_id = self.receiver.position, self.receiver.log_id
        begin = partial(
            edge.connect, self, self.request_id, position, log_id, self._hear, self.spacing_s
        )
        self.world.ask(self, edge, begin, self._on_reply)

    def _on_reply(self, reply: Reply | None) -> None:
        self._connecting = False
        early, self._early = self._early, []
        if reply is None or reply.status == 503:
            self._retry.arm(self.world.now + RETRY_S)
        elif reply.status == 200:
            self.world.say(f"{self.name} connected after {self.receiver.position}")
            self._connection = reply.connection
            self.receiver.log_id = reply.log_id
            self._on_window(reply.window)
            self._check_whole()
            self._silence.arm(self.world.now + SILENCE_S)
            for connection, event in early:
                self._hear(connection, event)
        elif reply.status == 204:
            self._finish(reply.last_seq, reply.log_id)
        elif reply.status == 404 and not self.receiver.position and not self._safety.may_forget:
            # A second reader may be there before the request is.
            self._retry.arm(self.world.now + RETRY_S)
        else:
            self._lose(f"{reply.status}")

    def _lose(self, why: str) -> None:
        self.lost = why
        self._leave()
        self._safety.on_lost(self.name, self.request_id, why)
        self.world.injected["history lost (seen)"] += 1

    def _reconnect(self) -> None:
        connection, self._connection = self._connection, None
        self.receiver.on_reconnect()
        self._gap_timer.arm(None)
        self._silence.arm(None)
        if connection is not None:
            self._hang_up(connection)
        self._retry.arm(self.world.now + self.world.random.uniform(0.0, RETRY_S))

    def _hang_up(self, connection: Connection) -> None:
        edge = connection.feed.edge
        if not self.world.is_cut(self, edge):
            self.world.after(self.world.far_delay_s(), edge, connection.abandon)

    # reading

    def _hear(self, connection: Connection, event: StreamEvent) -> None:
        if connection is self._connection:
            self._take_event(event)
        elif self._connecting:
            self._early.append((connection, event))  # in HTTP the reply is always first
        elif not isinstance(event, Closed):
            self._hang_up(connection)

    def _take_event(self, event: StreamEvent) -> None:
        self._silence.arm(self.world.now + SILENCE_S)
        match event:
            case ChunkEvent():
                self._take(event)
            case StateEvent():
                self._on_window(event.window)
                if event.status is Status.REAPED:
                    self._revive()
            case EndEvent():
                if self.receiver.position == event.last_seq:
                    self._finish(event.last_seq, event.log_id)
                else:
                    self._reconnect()
            case Closed():
                self._reconnect()
            case ErrorEvent():
                self._lose(event.step.value)
            case Comment():
                pass

    def _take(self, event: ChunkEvent) -> None:
        start = self.receiver.position
        text = self.receiver.on_chunk(
            event.seq, event.text, self.world.now, tokens=event.tokens, log_id=event.log_id
        )
        self.world.say(f"{self.name} hears {event.seq} of log {event.log_id}, had {start}")
        end = self.receiver.position
        if end > start:
            self.text += text
            self._safety.on_text(self.name, self.request_id, self.receiver.log_id, start, end, text)
        self._gap_timer.arm(self.receiver.gap_deadline)
        self._arm_ack()

    def _on_window(self, tokens: int) -> None:
        self.receiver.on_window(tokens, self.world.now)
        self._arm_ack()

    def _check_whole(self) -> None:
        self._safety.on_whole_text(
            self.name,
            self.request_id,
            self.receiver.log_id,
            self.receiver.position,
            self.text,
        )

    def _on_gap(self) -> None:
        deadline = self.receiver.gap_deadline
        if deadline is not None and deadline <= self.world.now:
            self._reconnect()
        else:
            self._gap_timer.arm(deadline)

    def _finish(self, last_seq: int, log_id: str) -> None:
        self.receiver.log_id = log_id
        self.receiver.on_end(self.world.now)
        self._arm_ack()
        self._check_whole()
        self._safety.on_complete(self.name, self.request_id, log_id, last_seq)
        self.world.say(f"{self.name} has everything, {last_seq} chunks")
        self.complete = True
        self._leave()

    def _leave(self) -> None:
        connection, self._connection = self._connection, None
        self._silence.arm(None)
        self._gap_timer.arm(None)
        if connection is not None:
            self._hang_up(connection)

    # acknowledging and reviving

    def _arm_ack(self) -> None:
        if self._acks:
            self._ack_timer.arm(self.receiver.deadline())

    def _ack(self) -> None:
        seq = self.receiver.take_ack(self.world.now)
        if seq is None:
            self._arm_ack()
            return
        edge = self._edge()
        self.world.ask(self, edge, partial(edge.ack, self.request_id, seq), self._on_ack_reply)

    def _on_ack_reply(self, reply: Reply | None) -> None:
        refused = reply is None or reply.status in (503, 409)
        if refused and not self.complete and not self.lost:
            self.receiver.on_ack_lost(self.world.now + RETRY_S)
            self._arm_ack()

    def _revive(self) -> None:
        if not self._reviving:
            self._reviving = True
            edge = self._edge()
            self.world.ask(self, edge, partial(edge.revive, self.request_id), self._on_revived)

    def _on_revived(self, reply: Reply | None) -> None:
        self._reviving = False
        if reply is None or reply.status == 503:
            self._reconnect()  # another edge may be able to

    def cancel(self) -> None:
        if self.present:
            edge = self._edge()
            self.world.say(f"{self.name} cancels")
            begin = partial(edge.cancel, self.request_id)
            self.world.ask(self, edge, begin, lambda _: None)

    # coming and going

    def vanish(self) -> None:
        """Gone, with or without a word to the edge."""
        if self.complete or self.lost:
            return
        self.world.say(f"{self.name} vanishes")
        if self.world.random.random() < 0.5:
            self._leave()
        self._connection = None
        self.present = False
        self.incarnation += 1

    def come_back(self, reload: bool) -> None:
        """Back with what it had, or as a page that was loaded anew and has nothing."""
        if self.present:
            self.expected = False
            return
        self.world.say(f"{self.name} is back{', reloaded' if reload else ''}")
        self.present = True
        self.expected = False
        self._connecting = self._reviving = False
        self._ack_timer = Timer(self, self._ack)
        self._gap_timer = Timer(self, self._on_gap)
        self._silence = Timer(self, self._reconnect)
        self._retry = Timer(self, self._connect)
        position = 0 if reload else self.receiver.position
        if reload:
            self.text = ""
        log_id = "" if reload else self.receiver.log_id
        self.receiver = Receiver(ReceiverConfig(), position=position, log_id=log_id)
        self.ask()
