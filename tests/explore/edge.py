"""An edge with one reader's connection: ``Merge``, ``Sender`` and ``View.shared`` in a shell.

As in ``tests/sim/feed.py`` and ``connection.py``, for one reader: what is in order goes out
at once, so there is no ring; what the reader lacks at first is read as any gap is. Here an
edge may be changed, by the ``Line`` that made the copy.
"""

from typing import Any, NamedTuple

from lore.protocol.lifecycle import ENDED
from lore.protocol.merge import Arrival, Merge
from lore.protocol.rtt import RttConfig
from lore.protocol.sender import Action, Sender, SenderConfig
from lore.store.base import AckMessage, ChunkMessage, Message, View
from tests.explore.depot import Depot
from tests.explore.forms import Violation, copy_of, form_of

AT_ONCE = RttConfig(initial_rto_s=0.0, min_rto_s=0.0, max_rto_s=0.0, granularity_s=0.0)
SENDER = SenderConfig(AT_ONCE, max_retransmits=3)


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


class Closed(NamedTuple):
    def __str__(self) -> str:
        return "the end of the connection"


Event = ChunkEvent | EndEvent | Closed


class Edge:
    """``news`` is what the store has told and has not arrived; ``written`` goes to the reader."""

    def __init__(self, position: int) -> None:
        self.view: View | None = None
        self.log_id = ""
        self.subscribed = True
        self.merge = Merge(position)
        self.sender = Sender(SENDER, position=position)
        self.texts: dict[int, str] = {}
        self.ended = False
        self.reading = "view"
        """What is to be read of the store: 'view', 'log' or nothing."""
        self.reply: Any = None
        """What was read and is on its way back."""
        self.again = False
        self.news: tuple[Message, ...] = ()
        self.is_closed = False
        self.written: list[Event] = []
        self.acks: list[int] = []

    def form(self) -> Any:
        return (
            _view_form(self.view, fresh=False),
            *(self.log_id, self.subscribed, form_of(self.merge), form_of(self.sender)),
            *(form_of(self.texts), self.ended, self.reading, self._reply_form(), self.again),
            tuple(_message_form(message) for message in self.news),
        )

    def _reply_form(self) -> Any:
        if isinstance(self.reply, View):
            return _view_form(self.reply, fresh=True)
        return self.reply if self.reply is None else tuple(map(_message_form, self.reply))

    def copy(self) -> "Edge":
        new = Edge.__new__(Edge)
        new.__dict__.update(self.__dict__)
        new.merge, new.sender = copy_of(self.merge), copy_of(self.sender)
        new.texts = dict(self.texts)
        new.written, new.acks = [], []
        return new

    # news

    def tell(self, message: Message) -> None:
        """The store published something.

        An ack that says nothing new is as good as heard, and one that follows another stands
        for both: hearing the first alone commutes with publishing the second.
        """
        if isinstance(message, AckMessage):
            if message.acked_seq <= self.sender.acked:
                return
            if self.news and isinstance(self.news[-1], AckMessage):
                self.news = self.news[:-1]
        self.news += (message,)

    def hear(self, message: Message) -> None:
        if self.view is None:
            if isinstance(message, ChunkMessage):
                self.merge.on_reset()
        elif isinstance(message, AckMessage):
            self.on_acked(message.acked_seq)
        elif not isinstance(message, ChunkMessage) or self._is_foreign(message):
            self.look()
        else:
            arrival = self.merge.on_live(message.seq)
            if arrival is Arrival.NEXT:
                self._send(message)
                self._say_end()
            elif arrival is Arrival.GAP:
                self.look()

    def _is_foreign(self, chunk: ChunkMessage) -> bool:
        assert self.view is not None
        return chunk.seq > self.view.shared(chunk.log_id)

    def resubscribe(self) -> None:
        self.subscribed = True
        self.merge.on_reset()
        self.look()

    # reading the view, and the log while it holds more

    def look(self) -> None:
        if self.reading:
            self.again = True
        else:
            self.reading = "view"

    def read(self, depot: Depot) -> None:
        """The store does the read that is under way."""
        if self.reading == "view":
            self.reply = depot.view
        else:
            after = self.merge.start_read()
            self.reply = depot.store.read("request", after=after, now_ms=depot.clock)

    def take_log(self) -> None:
        messages, self.reply = self.reply, None
        for message in messages:
            if self._is_foreign(message):
                self.again = True
                break
            arrival = self.merge.on_log(message.seq)
            if arrival is Arrival.NEXT:
                self._send(message)
            elif arrival is Arrival.GAP:
                raise Violation(f"P2: a hole in the log before {message.seq}")
        self._say_end()
        if not (self.merge.missing and messages and not self.again):
            self._looked()

    def take_view(self) -> None:
        view, self.reply = self.reply, None
        self.reconcile(view)
        if view.next_seq - 1 > self.merge.head or self.merge.missing:
            self.reading = "log"
        else:
            self._looked()

    def _looked(self) -> None:
        self.reading = "view" if self.again else ""
        self.again = False

    def loses_history(self, view: View, log_id: str) -> bool:
        """Whether a reader of ``log_id`` with what was sent here cannot go on in ``view``."""
        position = self.sender.position
        past_end = view.status in ENDED and position >= view.next_seq
        return past_end or position > view.shared(log_id)

    def reconcile(self, view: View) -> None:
        before, self.view = self.view, view
        if before is not None and view.log_id != before.log_id:
            shared = view.shared(before.log_id)
            self.merge = Merge(min(self.merge.head, shared, view.next_seq - 1))
        elif view.next_seq - 1 < self.merge.head:
            self.merge = Merge(view.next_seq - 1)  # the store forgot; its owner sends again
        if before is not None and self.loses_history(view, self.log_id):
            self.close()  # the reader comes back with what it really has, and is judged
            return
        self.log_id = view.log_id
        self._say_end()
        # The store forgot acks that the reader will not repeat: it has nothing new.
        acked = min(self.sender.acked, view.next_seq - 1)
        if acked > view.acked_seq:
            self.acks.append(acked)

    # the connection

    def _send(self, chunk: ChunkMessage) -> None:
        if chunk.seq == self.sender.position + 1:
            self.texts[chunk.seq] = chunk.text
            self.sender.on_sent(chunk.seq, 0.0)
            self.written.append(ChunkEvent(chunk.seq, chunk.text, self.log_id))

    def on_acked(self, seq: int) -> None:
        self.sender.on_ack(seq, 0.0)
        for old in [old for old in self.texts if old <= seq]:
            del self.texts[old]
        self._say_end()

    def _say_end(self) -> None:
        view = self.view
        if view is None or view.status not in ENDED or self.sender.position != view.next_seq - 1:
            self.ended = False
            return
        if not self.ended:
            self.ended = True
            self.written.append(EndEvent(view.next_seq - 1, view.log_id))
        if self.sender.oldest is None:
            self.close()

    def retransmit(self) -> None:
        action = self.sender.on_timer(0.0)
        seq = self.sender.oldest
        if action is Action.CLOSE:
            self.close()
        elif action is Action.RETRANSMIT and seq is not None:
            self.written.append(ChunkEvent(seq, self.texts[seq], self.log_id))

    def close(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            self.written.append(Closed())


def _view_form(view: View | None, *, fresh: bool) -> Any:
    """A ``fresh`` view is still to be acted on; of an older one only its log and end count."""
    if view is None:
        return None
    end = view.next_seq if view.status in ENDED else 0
    form = (view.log_id, view.forks, end)
    return (*form, view.next_seq, view.acked_seq) if fresh else form


def _message_form(message: Message) -> Any:
    if isinstance(message, ChunkMessage):
        return (message.seq, message.text, message.log_id)
    if isinstance(message, AckMessage):
        return message
    return "look"
