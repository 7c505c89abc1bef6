"""An edge with one reader's connection: carries out what ``Follower`` and ``Delivery`` decide.

All durations are 0, and what a timer brings about is a step of its own. Chunks stay in memory
until the reader has acknowledged them. Here an edge may be changed, by the ``Line`` that made
the copy.
"""

from typing import Any, NamedTuple

from lore.protocol.delivery import Delivery, DeliveryConfig, Opening, Step
from lore.protocol.follower import Follower
from lore.protocol.follower_types import (
    Acked,
    Acknowledge,
    Call,
    Clear,
    FollowerConfig,
    Hole,
    ReadPage,
    ReadView,
)
from lore.protocol.lifecycle import ENDED
from lore.protocol.rtt import RttConfig
from lore.protocol.sender import Action, Sender, SenderConfig
from lore.store.base import AckMessage, ChunkMessage, Message, View
from tests.explore.depot import Depot
from tests.explore.forms import Violation, copy_of, form_of

AT_ONCE = RttConfig(initial_rto_s=0.0, min_rto_s=0.0, max_rto_s=0.0, granularity_s=0.0)
SENDER = SenderConfig(AT_ONCE, max_retransmits=3)
GRACE_S = 1.0
FOLLOWER = FollowerConfig(
    restore_grace_s=GRACE_S,
    unknown_retry_s=0.0,
    look_again_s=0.0,
    look_every_s=0.0,
    retry_s=0.0,
    max_retry_s=0.0,
)
DELIVERY = DeliveryConfig(heartbeat_s=float("inf"), log_retry_s=0.0)
PAGE_CHUNKS = 64


class ChunkEvent(NamedTuple):
    seq: int
    text: str
    log_id: str

    def __str__(self) -> str:
        return f"chunk {self.seq}"


class EndEvent(NamedTuple):
    last_seq: int
    log_id: str

    def __str__(self) -> str:
        return f"the end after {self.last_seq}"


class LostEvent(NamedTuple):
    def __str__(self) -> str:
        return "that its history is lost"


class Closed(NamedTuple):
    def __str__(self) -> str:
        return "the end of the connection"


Event = ChunkEvent | EndEvent | LostEvent | Closed


class Asked(NamedTuple):
    """A call of the store under way, and its reply once the store has done it."""

    what: str
    """'view', 'log', 'page', or 'again': a chunk to be sent again."""
    call: Call
    reply: Any = None


class Edge:
    """``news`` is what the store has told and has not arrived; ``written`` goes to the reader."""

    def __init__(self, position: int, log_id: str) -> None:
        self.asked: tuple[Asked, ...] = ()
        self.subscribed = True
        self.opening: Opening | None = None
        """What the reader is answered, before anything is written."""
        self.delivery: Delivery[ChunkMessage] | None = None
        self.follower = Follower(FOLLOWER, "", now=0.0, wait_s=GRACE_S)
        self.ring: dict[int, ChunkMessage] = {}
        self.checking: int | None = None
        """The look that a retransmission waits for."""
        self.news: tuple[Message, ...] = ()
        self.is_closed = False
        self.written: list[Event] = []
        self.acks: list[int] = []
        self._position = position
        self._log_id = log_id
        self.follower.on_subscribed(0.0)
        self._carry_out()

    def form(self) -> Any:
        checking = None if self.checking is None else self.checking - self.follower.looks
        view = _view_form(self.follower.view) if hasattr(self.follower, "view") else None
        return (
            *(self.subscribed, form_of(self.delivery or self.follower), view, checking),
            *(self._log_id, self._position if self.delivery is None else 0),
            tuple((seq, _message_form(chunk)) for seq, chunk in sorted(self.ring.items())),
            tuple((one.what, one.call, _reply_form(one.reply)) for one in self.asked),
            tuple(map(_message_form, self.news)),
        )

    def copy(self) -> "Edge":
        new = Edge.__new__(Edge)
        new.__dict__.update(self.__dict__)
        if self.delivery is None:
            new.follower = copy_of(self.follower)
        else:
            new.delivery = copy_of(self.delivery)
            new.follower = new.delivery.follower  # pyright: ignore[reportOptionalMemberAccess]
        new.ring = dict(self.ring)
        new.written, new.acks = [], []
        return new

    # news

    def tell(self, message: Message) -> None:
        """The store published something.

        An ack that says nothing new is as good as heard, and one that follows another stands
        for both: hearing the first alone commutes with publishing the second.
        """
        if isinstance(message, AckMessage):
            if message.acked_seq <= self.follower.acked_seq:
                return
            if self.news and isinstance(self.news[-1], AckMessage):
                self.news = self.news[:-1]
        self.news += (message,)

    def hear(self, message: Message) -> None:
        if (chunk := self.follower.on_message(message, 0.0)) is not None:
            self.ring[chunk.seq] = chunk
            self._pass_on(chunk)
        self._carry_out()

    def resubscribe(self) -> None:
        self.subscribed = True
        self.follower.on_reset(0.0)
        self._carry_out()

    def look(self) -> None:
        """Its timer, after a long silence."""
        self.follower.on_timer(0.0)
        self._carry_out()

    def cut_off(self) -> None:
        """The store is another one: what was under way is lost."""
        self.subscribed, self.news = False, ()
        asked, self.asked = self.asked, ()
        for one in asked:
            if one.what in ("view", "log"):
                self.follower.on_failed(0.0)
            elif one.what == "page":
                self._delivery.on_page([], 0.0)
        if not self.follower.is_open:
            self.close()
        self._check_again(away=True)

    def surrender(self) -> None:
        """Nobody has given the request back in time."""
        for now in (0.0, GRACE_S):
            self._answered("view")
            self.follower.on_view(None, "another", now)
            self._carry_out()

    @property
    def is_reading(self) -> bool:
        """Something is to be read of the store."""
        return any(one.reply is None for one in self.asked)

    @property
    def waits_for_view(self) -> bool:
        return any(one.what == "view" and one.reply is None for one in self.asked)

    # calls of the store

    def read(self, what: str, depot: Depot) -> None:
        """The store does the read that is under way."""
        self.asked = tuple(
            one._replace(reply=_answer(one.call, depot)) if one.what == what else one
            for one in self.asked
        )

    def take_reply(self, what: str) -> None:
        one = self._answered(what)
        match what:
            case "view":
                view, run_id = one.reply
                self.follower.on_view(view, run_id, 0.0)
            case "log":
                for chunk in self.follower.on_log(one.reply, 0.0):
                    self.ring[chunk.seq] = chunk
            case "page":
                page = self.follower.judge_page(one.call.after, one.reply, 0.0)
                self._delivery.on_page(list(page), 0.0)
            case _:
                page = self.follower.judge_page(one.call.after, one.reply, 0.0)
                if page and not self._delivery.loses_history():
                    self._write_chunk(page[0])
        self._carry_out()

    def _answered(self, what: str) -> Any:
        (one,) = (one for one in self.asked if one.what == what)
        self.asked = tuple(other for other in self.asked if other is not one)
        return one

    def _ask(self, what: str, call: Call) -> None:
        if all(one.what != what for one in self.asked):
            self.asked = (*self.asked, Asked(what, call))

    # what was decided

    def _carry_out(self) -> None:
        while commands := self.follower.take():
            for command in commands:
                match command:
                    case ReadView():
                        self._ask("view", command)
                    case Acknowledge(seq):
                        self.acks.append(seq)
                        self.follower.on_acknowledged(0.0)
                    case Clear():
                        self.ring.clear()
                    case Hole(seq):
                        raise Violation(f"P2: a hole in the log at {seq}")
                    case Acked(seq):
                        self._on_acked(seq)
                    case _ if isinstance(command, Call):
                        self._ask("log", command)
                    case _:
                        pass
        self._begin()
        self._check_again(away=False)
        self._pump()

    def _begin(self) -> None:
        if not self.follower.is_open or self.delivery is not None:
            return
        self.delivery = Delivery(
            DELIVERY,
            self.follower,
            position=self._position,
            log_id=self._log_id,
            sender=Sender(SENDER, position=self._position),
            returns=True,
            repeats_text=False,
            now=0.0,
        )
        self.opening = self.delivery.opening(asked=True)
        if self.opening is Opening.STREAM and self._position:
            self.follower.on_resumed(self._position, 0.0)
            self._carry_out()

    @property
    def _delivery(self) -> Delivery[ChunkMessage]:
        assert self.delivery is not None
        return self.delivery

    def _on_acked(self, seq: int) -> None:
        if self.delivery is not None:
            self.delivery.on_acked(seq, 0.0)
        for old in [old for old in self.ring if old <= seq]:
            del self.ring[old]

    def _pump(self) -> None:
        """Whatever is due but a retransmission, whose timer is a step of its own."""
        if self.delivery is None or self.opening not in (None, Opening.STREAM):
            return
        while not self.is_closed:
            at_hand = self.delivery.position + 1 in self.ring
            match self.delivery.next(0.0, at_hand=at_hand):
                case Step.SEND:
                    self._send(self.delivery)
                case Step.LOAD:
                    self._ask("page", ReadPage(self.delivery.position, PAGE_CHUNKS))
                    break
                case Step.LOST | Step.GONE:
                    self.written.append(LostEvent())
                    self.close()
                case _:
                    break

    def _pass_on(self, chunk: ChunkMessage) -> None:
        """The live path: the chunk that has just come, for a reader who has all before it."""
        delivery = self.delivery
        if delivery is None or self.is_closed:
            return
        if delivery.pass_on(chunk.seq, 0.0):
            self._write_chunk(chunk)

    def _send(self, delivery: Delivery[ChunkMessage]) -> None:
        delivery.states = []  # nobody here minds them
        pieces, delivery.loaded[:] = list(delivery.loaded), []
        seq = pieces[-1].seq if pieces else delivery.position
        while (piece := self.ring.get(seq := seq + 1)) is not None:
            pieces.append(piece)
        self._send_chunks(delivery, pieces)
        if delivery.is_at_end:
            view = self.follower.view
            self.written.append(EndEvent(view.next_seq - 1, view.log_id))
            self.close()

    def _send_chunks(self, delivery: Delivery[ChunkMessage], pieces: list[ChunkMessage]) -> None:
        for piece in pieces:
            if piece.seq > self.follower.acked_seq:
                self.ring[piece.seq] = piece  # to be sent again
            delivery.on_taken(piece.seq)
            self._write_chunk(piece)
        delivery.on_written(pieces, 0.0)

    def _write_chunk(self, chunk: ChunkMessage) -> None:
        self.written.append(ChunkEvent(chunk.seq, chunk.text, self.follower.view.log_id))

    def retransmit(self) -> None:
        """The time of the oldest chunk is over: look, and then judge."""
        self.checking = self.follower.look(0.0)
        self._carry_out()

    def _check_again(self, *, away: bool) -> None:
        if self.checking is None or self.checking > self.follower.looks:
            return
        self.checking = None
        delivery = self._delivery
        action = delivery.on_checked(0.0, away=away, arrived=delivery.position)
        if action is Action.CLOSE:
            self.close()
        elif isinstance(action, int):
            if (piece := self.ring.get(action)) is not None:
                self._write_chunk(piece)
            else:
                self._ask("again", ReadPage(action - 1, 1))

    def close(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            self.written.append(Closed())


def _answer(call: Any, depot: Depot) -> Any:
    if isinstance(call, ReadView):
        return depot.view, depot.store.run_id
    return depot.store.read("request", after=call.after, limit=call.limit, now_ms=depot.clock)


def _reply_form(reply: Any) -> Any:
    if isinstance(reply, tuple):
        view, run_id = reply
        return (*_view_form(view), view.next_seq, view.acked_seq, run_id)
    return reply if reply is None else tuple(map(_message_form, reply))


def _view_form(view: View) -> tuple[Any, ...]:
    """Of a view that was acted on only its log and its end count."""
    end = view.next_seq if view.status in ENDED else 0
    return (view.log_id, view.forks, end)


def _message_form(message: Message) -> Any:
    if isinstance(message, ChunkMessage):
        return (message.seq, message.text, message.log_id)
    if isinstance(message, AckMessage):
        return message
    return "look"
