"""A generator: the real ``Producer`` behind the smallest shell that can drive it.

As in ``tests/sim/generator.py``, for one request. A call is first under way, then answered;
one that is given up early stays under way (``late``) and may be done at any time after. A
maker is never changed; each move gives another one.
"""

from collections.abc import Callable
from typing import Any

from lore.protocol.lifecycle import ENDED, Status
from lore.protocol.producer import Producer
from lore.store.base import News, Outcome, Position, View
from tests.explore.calls import Call, give_back, in_order, perform, producer_of
from tests.explore.depot import LEASE_MS, Depot
from tests.explore.forms import Move, Violation, attempt, copy_of, form_of

ANSWERED = (Outcome.OK, Outcome.GAP)


class Maker:
    def __init__(self, tokens: int, *, keeps: bool, gives_back: bool) -> None:
        self.tokens = tokens
        self.gives_back = gives_back
        """Whether the store may lose everything, so that it matters how long a lease runs."""
        self.keeps = keeps
        """Whether it keeps what has ended, for a store that may forget (P3)."""
        self.view: View | None = None
        """The claim that it works on."""
        self.producer: Producer | None = None
        self.finished = False
        self.call: Call | None = None
        self.answer: Position | None = None
        self.renewal: Call | None = None
        self.renewed: Position | None = None
        self.forgotten = False
        """The store does not know the request, and is to be given it back (P3)."""
        self.lease_until = 0
        """By the store's clock, which is this one's as well."""
        self.late: tuple[Call, ...] = ()
        self.wakes: tuple[int | None, ...] = ()
        """Acked tokens, or None for the hint that the request was taken away."""

    def form(self) -> Any:
        claim = self.view and (self.view.epoch, self.view.log_id, self.view.next_seq)
        return (
            claim,
            form_of(self.producer),
            *(self.finished, self.call, self.answer, self.renewal, self.renewed),
            *(self.late, self.wakes, self.forgotten),
            self.gives_back and self.lease_until,
        )

    def copy(self) -> "Maker":
        new = Maker.__new__(Maker)
        new.__dict__.update(self.__dict__)
        new.producer = copy_of(self.producer)
        return new

    @property
    def lives(self) -> int:
        """The epoch that it works under, or 0."""
        return self.view.epoch if self.view is not None else 0

    @property
    def _work(self) -> Producer:
        assert self.producer is not None
        return self.producer

    @property
    def has_ended(self) -> bool:
        return self.producer is not None and self.producer.ended

    # moves that the store has no part in

    def local_moves(self) -> list[Move]:
        moves: list[Move] = []

        def add(label: str, kind: str, change: Callable[[Maker], None]) -> None:
            def act() -> tuple[Maker, None]:
                new = self.copy()
                change(new)
                return new, None

            moves.append(attempt(label, act, kind))

        if self.answer is not None:
            add(f"{{}} hears that {self.call}: {self.answer.outcome}", "", Maker._hear_answer)
            add(f"the answer to {self.call} by {{}} is lost", "drops", Maker._lose_call)
        elif self.call is not None:
            add(f"{self.call} by {{}} is lost", "drops", Maker._lose_call)
            add(f"{{}} gives {self.call} up while it is under way", "lates", Maker._give_up)
        if self.renewed is not None:
            add(f"{{}} hears of its lease: {self.renewed.outcome}", "", Maker._hear_renewed)
            add("the answer to the renewal by {} is lost", "drops", Maker._lose_renewal)
        if self.wakes:
            wake = self.wakes[0]
            what = "that it lost the request" if wake is None else f"of {wake} acked tokens"
            add(f"{{}} hears {what}", "", Maker._hear_wake)
            add(f"the news {what} is lost for {{}}", "drops", Maker._lose_wake)
        if self._may_decode:
            add(f"{{}} generates token {self._generated + 1}", "", Maker._decode)
        if self.producer is not None and self.renewal is None:
            add("{} renews its lease", "timers", Maker.renew)
        if self.view is not None:
            add("{} crashes", "crashes", Maker._crash)
        return moves

    @property
    def _generated(self) -> int:
        return self.producer.generated_tokens if self.producer else 0

    @property
    def _may_decode(self) -> bool:
        if self.producer is None or self.finished or self.producer.ended:
            return False
        limit = self.producer.limit
        return self._generated < self.tokens and (limit is None or self._generated < limit)

    def _decode(self) -> None:
        assert self.view is not None
        producer, token = self._work, self._generated + 1
        producer.on_piece(f"{token}@{self.view.epoch} ", (token,), 0.0)
        window = producer.window
        ahead = producer.generated_tokens - window.acked_tokens
        if ahead > window.size:
            raise Violation(f"P5: {ahead} tokens ahead of the acks, a window of {window.size}")
        self._end_if_all()
        self._pump()

    def _end_if_all(self) -> None:
        if self._work.generated_tokens >= self.tokens:
            self.finished = True
            self._work.on_finish("stop")

    def _pump(self) -> None:
        assert self.view is not None
        idle = self.call is None and not self.forgotten
        append = self._work.outbox(0.0) if idle else None
        if append is not None:
            method = "append" if append.chunks or append.finish_reason is None else "finish"
            self.call = Call(method, self.view.epoch, self.view.log_id, append)
        elif self._work.ended and not self.keeps:
            self._drop()

    def _drop(self) -> None:
        """Forget the request. Calls under way stay so, and nobody hears of their answers."""
        pending = [self.call if self.answer is None else None]
        pending.append(self.renewal if self.renewed is None else None)
        self.late = in_order(*self.late, *filter(None, pending))
        self.view = self.producer = self.call = self.answer = self.renewal = self.renewed = None
        self.finished = self.forgotten = False
        self.lease_until = 0
        self.wakes = ()

    _crash = _drop

    def _give_up(self) -> None:
        assert self.call is not None
        self.late = in_order(*self.late, self.call)
        self._lose_call()

    def _lose_call(self) -> None:
        self.call = self.answer = None
        self._work.on_lost()
        self._pump()

    def _lose_renewal(self) -> None:
        self.renewal = self.renewed = None

    def _lose_wake(self) -> None:
        self.wakes = self.wakes[1:]

    def renew(self) -> None:
        assert self.view is not None
        self.renewal = Call("renew", self.view.epoch, self.view.log_id)

    def _hear_answer(self) -> None:
        assert self.call is not None
        assert self.answer is not None
        call, answer = self.call, self.answer
        self.call = self.answer = None
        # Fenced may mean that our own end is in and its answer was lost: finish tells.
        if answer.outcome is Outcome.UNKNOWN:
            self._work.on_lost()
            self.forgotten = True
            return
        told = call.method == "append" and answer.outcome in (Outcome.OK, Outcome.FENCED)
        if told and call.append is not None and call.append.finish_reason is not None:
            self.call = Call("finish", call.epoch, call.log_id, call.append)
        elif answer.outcome in ANSWERED:
            self._work.on_appended(answer.next_seq, answer.acked_tokens, 0.0)
            self._pump()
        else:
            self._drop()

    def _hear_renewed(self) -> None:
        assert self.renewed is not None
        answer = self.renewed
        self.renewal = self.renewed = None
        if answer.outcome is Outcome.OK:
            self._go_on(answer)
        elif answer.outcome is Outcome.UNKNOWN:
            self.forgotten = self.call is None  # else the append's own answer tells
        elif answer.status not in ENDED or not self.finished:
            self._drop()

    def _go_on(self, answer: Position) -> None:
        paused = answer.status is Status.PAUSED
        self._work.on_position(answer.next_seq, answer.acked_tokens, 0.0, paused=paused)
        self._pump()

    def _hear_wake(self) -> None:
        wake, self.wakes = self.wakes[0], self.wakes[1:]
        if wake is not None:
            self._work.on_acked(wake, 0.0)
            self._pump()
        elif self.renewal is None:
            self.renew()

    # what others do to it

    def woken(self, wakes: tuple[News, ...]) -> "Maker":
        if self.producer is None or self.view is None:
            return self
        new = self.copy()
        for wake in wakes:
            if wake.epoch == self.view.epoch:
                new._tell(wake.position)
        return new

    def _tell(self, wake: Position) -> None:
        """As with an edge's news: what says nothing new is as good as heard, and so on."""
        if wake.outcome is Outcome.FENCED:
            self.wakes += (None,)
        elif wake.acked_tokens > self._work.window.acked_tokens:
            if self.wakes and self.wakes[-1] is not None:
                self.wakes = self.wakes[:-1]
            self.wakes += (wake.acked_tokens,)

    def cut_off(self) -> "Maker":
        """The store restarted: what was under way is lost, and every position is reported."""
        new = self.copy()
        new.late, new.wakes, new.answer, new.renewed = (), (), None, None
        if new.producer is not None:
            if new.call is not None:
                new._lose_call()
            new.renew()
        elif new.view is not None:
            new._drop()
        return new

    # moves at the store

    def moves(self, depot: Depot) -> list[Move]:
        moves: list[Move] = []
        if self.call is not None and self.answer is None:
            label = f"{self.call} by {{}} reaches the store"
            moves.append(attempt(label, lambda: self._do_call(depot)))
        if self.renewal is not None and self.renewed is None:
            label = f"{self.renewal} by {{}} reaches the store"
            moves.append(attempt(label, lambda: self._do_renewal(depot)))
        if self.forgotten:
            label = "{} gives the request back"
            moves.append(attempt(label, lambda: self._give_back(depot)))
            label += ", and the answer is lost"
            moves.append(attempt(label, lambda: (self, self._give_back(depot)[1]), "drops"))
        if self.view is not None and self.producer is None:
            moves.append(attempt("{} reads the log", lambda: (self._take(depot), depot)))
        # One that has it does not claim it again. As both have the same name, the other's
        # claim together with this one's crash is the same.
        if depot.claimable and (self.view is None or self.has_ended):
            moves.append(attempt("{} claims the request", lambda: self._claim(depot)))
        return moves

    def late_moves(self, depot: Depot) -> list[Move]:
        return [
            attempt(
                f"{call} by {{}} reaches the store late",
                lambda call=call: self._do_late(depot, call),
            )
            for call in dict.fromkeys(self.late)
        ]

    def _do_call(self, depot: Depot) -> tuple["Maker", Depot]:
        assert self.call is not None
        new = self.copy()
        new.answer, after = perform(self.call, depot)
        new._leased(new.answer, depot)
        return new, after

    def _do_renewal(self, depot: Depot) -> tuple["Maker", Depot]:
        assert self.renewal is not None
        new = self.copy()
        new.renewed, after = perform(self.renewal, depot)
        new._leased(new.renewed, depot)
        return new, after

    def _leased(self, position: Position, depot: Depot) -> None:
        if position.outcome is Outcome.OK:
            self.lease_until = depot.clock + LEASE_MS

    def _give_back(self, depot: Depot) -> tuple["Maker", Depot]:
        assert self.view is not None
        new = self.copy()
        alone = depot.clock < self.lease_until
        position, view, after = give_back(self.view, self._work, depot, alone=alone)
        if position.outcome is Outcome.OK:
            new.view, new.forgotten = view, False
            new._leased(position, depot)
            new._go_on(position)
        else:
            new._drop()
        return new, after

    def _do_late(self, depot: Depot, call: Call) -> tuple["Maker", Depot]:
        new = self.copy()
        late = list(new.late)
        late.remove(call)
        new.late = tuple(late)
        return new, perform(call, depot)[1]

    def _claim(self, depot: Depot) -> tuple["Maker", Depot]:
        claimed, after = depot.claim()
        new = self.copy()
        if claimed is not None:
            new._drop()
            new.view = claimed.view
            new.lease_until = depot.clock + LEASE_MS
        return new, after

    def _take(self, depot: Depot) -> "Maker":
        """Take the request up where its log ends; a log that moved since the claim is another's."""
        new = self.copy()
        view, history = self.view, depot.log()
        assert view is not None
        if len(history) != view.next_seq - 1:
            new._drop()
            return new
        new.producer = producer_of(view, history)
        new._end_if_all()
        new._pump()
        return new
