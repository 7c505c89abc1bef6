"""A reader and its edge: the real ``Receiver`` at one end, an ``Edge`` at the other.

Between them run news (store to edge), events (edge to reader) and acks (reader to store). A
line is never changed; each move gives another one.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from lore.protocol.commands import Ack
from lore.protocol.delivery import Opening
from lore.store.base import AckMessage, Message, Outcome
from lore_client.protocol.receiver import Receiver, ReceiverConfig
from tests.explore.channel import takes, words
from tests.explore.depot import REQUEST, Depot
from tests.explore.edge import ChunkEvent, Closed, Edge, EndEvent, Event, LostEvent
from tests.explore.forms import Move, Violation, attempt, copy_of, form_of

AT_ONCE = ReceiverConfig(window_tokens=1, ack_delay_s=0.0, gap_timeout_s=0.0)


class Line:
    def __init__(self, log_id: str, *, slow_reads: bool) -> None:
        self.slow_reads = slow_reads
        self.phase = "reading"
        """reading, complete, or lost: it was told that its history is (P4)"""
        self.receiver = Receiver(AT_ONCE, log_id=log_id)
        self.texts: tuple[str, ...] = ()
        self.edge: Edge | None = None
        self.events: tuple[Event, ...] = ()
        self.ack = 0
        """The ack under way: a reader sends one at a time."""
        self.late: tuple[int, ...] = ()
        """Acks that were sent twice, or by an edge for its reader."""

    def form(self) -> Any:
        return (
            *(self.phase, form_of(self.receiver), self.texts),
            *(self.edge and self.edge.form(), self.events, self.ack, self.late),
        )

    def copy(self) -> "Line":
        new = Line.__new__(Line)
        new.__dict__.update(self.__dict__)
        new.receiver = copy_of(self.receiver)
        new.edge = self.edge and self.edge.copy()
        return new

    def told(self, news: tuple[Message, ...]) -> "Line":
        """The store published something."""
        if not news or self.edge is None or not self.edge.subscribed:
            return self
        new = self.copy()
        assert new.edge is not None
        for message in news:
            new.edge.tell(message)
        return new

    def cut_off(self) -> "Line":
        """The store restarted: the subscription is gone, and so is what was on its way."""
        if self.edge is None:
            return self
        new = self.copy()
        new._edge.cut_off()
        new._settle()
        return new

    # which of its moves may come first (see space.py)

    def may_deliver_first(self, *, reorders: bool) -> bool:
        """Its events may be taken first: nothing else that happens changes what they do."""
        ready = self.events[: 2 if reorders else 1]
        return len(ready) == (2 if reorders else 1) and all(
            isinstance(event, ChunkEvent) for event in ready
        )

    def may_hear_first(self, *, reorders: bool) -> bool:
        edge = self.edge
        if edge is None or not edge.subscribed or len(edge.news) < (2 if reorders else 1):
            return False
        return not edge.is_reading

    # moves that the store has no part in

    def _add(
        self, moves: list[Move], label: str, kind: str, change: Callable[["Line"], None]
    ) -> None:
        def act() -> tuple[Line, None]:
            new = self.copy()
            change(new)
            new._settle()
            return new, None

        moves.append(attempt(label, act, kind))

    def reader_moves(self) -> list[Move]:
        moves: list[Move] = []
        for verb, kind, rest, event in takes(self.events):
            if isinstance(event, Closed) and kind:
                continue  # TCP says this, not the stream
            label = f"{event} {verb} for {{}}" if kind == "drops" else f"{{}} hears {event}{verb}"
            self._add(moves, label, kind, lambda line, e=event, r=rest, k=kind: line._hear(e, r, k))
        if self.edge is not None:
            self._add(moves, "the connection of {} breaks", "cuts", Line._disconnect)
        if self.receiver.gap_deadline is not None:
            self._add(moves, "{} gives up a gap", "timers", Line._disconnect)
        return moves

    def edge_moves(self) -> list[Move]:
        moves: list[Move] = []
        if self.edge is None:
            return moves
        for verb, kind, rest, message in takes(self.edge.news):
            what = words(message)
            label = (
                f"{what} {verb} for {{}}" if kind == "drops" else f"{{}}'s edge hears {what}{verb}"
            )
            self._add(
                moves, label, kind, lambda line, m=message, r=rest, k=kind: line._news(m, r, k)
            )
        for one in self.edge.asked:
            if one.reply is not None:
                label = f"the {one.what} arrives at {{}}'s edge"
                self._add(moves, label, "", lambda line, what=one.what: line._take_reply(what))
        sender = self.edge.delivery and self.edge.delivery.sender
        if sender and sender.oldest is not None and self.edge.subscribed:
            label = f"{{}}'s edge sends chunk {sender.oldest} again"
            self._add(moves, label, "timers", lambda line: line._edge.retransmit())
        return moves

    def idle_moves(self) -> list[Move]:
        """What an edge does after a long silence: only ever needed in the end."""
        moves: list[Move] = []
        if self.edge is not None and self.edge.delivery is not None:
            self._add(moves, "{}'s edge looks", "timers", lambda line: line._edge.look())
        return moves

    @property
    def _edge(self) -> Edge:
        assert self.edge is not None
        return self.edge

    def _news(self, message: Message, rest: tuple[Message, ...], kind: str) -> None:
        self._edge.news = rest
        if kind != "drops":
            self._edge.hear(message)

    def _take_reply(self, what: str) -> None:
        self._edge.take_reply(what)

    def _judge(self) -> None:
        """The answer to the call that this connection begins with: 200, 204 or 410."""
        edge = self._edge
        if edge.opening is Opening.LOST:
            self.phase = "lost"
        elif edge.opening is Opening.COMPLETE:
            self._finish(edge.follower.view.log_id)
        else:
            self.receiver.log_id = edge.follower.view.log_id
        edge.opening = None

    def _settle(self) -> None:
        """What was written and acknowledged goes on its way."""
        edge = self.edge
        if edge is not None:
            if edge.opening is not None:
                self._judge()
            self.events += tuple(edge.written)
            self._say_late(*edge.acks)
            edge.written, edge.acks = [], []
            if edge.is_closed or self.phase != "reading":
                self.edge = None
        if self.phase != "reading":
            self.events = ()
        if not self.ack:
            self.ack = self.receiver.take_ack(0.0) or 0

    def _say_late(self, *seqs: int) -> None:
        self.late = tuple(sorted({*self.late, *seqs}))

    def _hear(self, event: Event, rest: tuple[Event, ...], kind: str) -> None:
        self.events = rest
        if kind == "drops":
            return
        receiver = self.receiver
        match event:
            case ChunkEvent():
                text = receiver.on_chunk(event.seq, event.text, 0.0, log_id=event.log_id)
                self.texts += tuple(word + " " for word in text.split())
            case EndEvent():
                if receiver.position == event.last_seq:
                    self._finish(event.log_id)
                else:
                    self._disconnect()
            case LostEvent():
                self.phase = "lost"
            case Closed():
                self._disconnect()

    def _finish(self, log_id: str) -> None:
        self.receiver.log_id = log_id
        self.receiver.on_end(0.0)
        self.phase = "complete"

    def _disconnect(self) -> None:
        self.edge, self.events = None, ()
        self.receiver.on_reconnect()

    # moves at the store

    def moves(self, depot: Depot) -> list[Move]:
        moves: list[Move] = []
        if not depot.is_there:
            edge = self.edge
            if edge is not None and edge.subscribed and edge.waits_for_view:
                label = "{}'s edge gives the request up"
                self._add(moves, label, "surrenders", Line._surrender)
        elif self.ack:
            moves.append(self._acknowledge(depot, self.ack, "", Line._answered))
            moves.append(self._acknowledge(depot, self.ack, "doubles", Line._doubled))
            self._add(moves, f"the ack of {self.ack} by {{}} is lost", "drops", Line._lose_ack)
            label = f"{{}} gives the ack of {self.ack} up while it is under way"
            self._add(moves, label, "lates", Line._give_up_ack)
        for seq in self.late if depot.is_there else ():
            arrived = partial(Line._arrived_late, seq=seq)
            moves.append(self._acknowledge(depot, seq, "", arrived))
        edge = self.edge
        if edge is None:
            if self.phase == "reading" and not self.events:
                self._add(moves, "{} connects", "", Line._connect)
        elif not edge.subscribed:
            self._add(
                moves, "{}'s edge subscribes again", "", lambda line: line._edge.resubscribe()
            )
        else:
            for one in edge.asked if self.slow_reads and depot.is_there else ():
                if one.reply is None:
                    label = f"{{}}'s edge reads the {one.what}"
                    read = partial(_read, what=one.what, depot=depot)
                    self._add(moves, label, "", read)
            if edge.delivery is not None:
                self._add(moves, "{}'s edge loses its subscription", "resets", Line._unsubscribe)
        return moves

    @property
    def must_read(self) -> bool:
        edge = self.edge
        return edge is not None and edge.subscribed and edge.is_reading and not self.slow_reads

    def caught_up(self, depot: Depot) -> "Line":
        """What the edge wants to read is there at once."""
        new = self.copy()
        while new.edge is not None and new.edge.is_reading and depot.is_there:
            what = next(one.what for one in new.edge.asked if one.reply is None)
            new.edge.read(what, depot)
            new._take_reply(what)
            new._settle()
        return new

    def _surrender(self) -> None:
        self._edge.surrender()
        if self._edge.follower.gone and self._edge.delivery is None:
            self.phase = "lost"  # before anything was written

    def _connect(self) -> None:
        self.receiver.on_reconnect()
        self.edge = Edge(self.receiver.position, self.receiver.log_id)

    def _unsubscribe(self) -> None:
        self._edge.subscribed, self._edge.news = False, ()

    def _answered(self) -> None:
        self.ack = 0

    def _doubled(self) -> None:
        self._say_late(self.ack)
        self.ack = 0

    def _lose_ack(self) -> None:
        self.ack = 0
        if self.phase == "reading":
            self.receiver.on_ack_lost(0.0)

    def _give_up_ack(self) -> None:
        self._say_late(self.ack)
        self._lose_ack()

    def _arrived_late(self, seq: int) -> None:
        self.late = tuple(other for other in self.late if other != seq)

    def _acknowledge(
        self, depot: Depot, seq: int, kind: str, change: Callable[["Line"], None]
    ) -> Move:
        label = f"the ack of {seq} by {{}} reaches the store{', and will again' if kind else ''}"
        try:
            position, after = depot.call(Ack(REQUEST, seq), read_seq=self.receiver.position)
            if position.outcome is Outcome.AHEAD and depot.runs == 1:
                return Move(label, kind, violation=f"P9: an ack of {seq}, and the log ends before")
        except Violation as violation:
            return Move(label, kind, violation=str(violation))
        new = self.copy()
        change(new)
        if position.outcome is Outcome.AHEAD and new.phase == "reading":
            new.receiver.on_ack_lost(0.0)
        elif new.edge is not None and new.edge.subscribed and not after.news:
            # What an edge hears of the acks that it handles is news as well.
            new.edge.tell(AckMessage(position.acked_seq, position.acked_tokens))
        new._settle()
        return Move(f"{label}: {position.outcome}", kind, new, after)


def _read(line: Line, *, what: str, depot: Depot) -> None:
    line._edge.read(what, depot)
