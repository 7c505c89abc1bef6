"""A generator: the real ``Owner`` behind the smallest shell that can drive it.

As in ``tests/sim/generator.py``, for one request. A call is first under way, then answered;
one that is given up early stays under way (``late``) and may be done at any time after. A
maker is never changed; each move gives another one.
"""

from collections.abc import Callable
from typing import Any

from lore.protocol.claims import Verdict, judge
from lore.protocol.commands import Release, Renew
from lore.protocol.messages import Claimed, News, Outcome, Position
from lore.protocol.owner import Owner
from lore.protocol.owner_types import OwnerState, Update
from tests.explore.calls import Call, in_order, owner_of, perform, renewal, words
from tests.explore.depot import OWNER, REQUEST, Depot
from tests.explore.forms import Move, Violation, attempt, copy_of, form_of


class Maker:
    def __init__(self, tokens: int, *, keeps: bool, gives_back: bool, paced: bool) -> None:
        self.tokens = tokens
        self.paced = paced
        """Whether it decodes only what it was granted, a token at a time (P20)."""
        self.is_granted = False
        """Whether it may decode its next token."""
        self.gives_back = gives_back
        """Whether the store may lose everything, so that it matters how long a lease runs."""
        self.keeps = keeps
        """Whether it keeps what has ended, for a store that may forget (P3)."""
        self.claimed: Claimed | None = None
        """A claim whose log it has not read."""
        self.owner: Owner | None = None
        self.call: Call | None = None
        self.answer: Position | None = None
        self.renewal: Renew | None = None
        self.renewed_s = 0.0
        self.renewed: Position | None = None
        self.late: tuple[Call, ...] = ()
        self.wakes: tuple[News, ...] = ()
        self.run_id = ""
        """The life of the store that it is connected to."""
        self.clock_s = 0.0

    def form(self) -> Any:
        return (
            *(form_of(self.claimed), form_of(self.owner), self.call, self.answer),
            *(self.renewal, self.renewed_s, self.renewed, self.late, self.wakes),
            *(self.run_id, self.clock_s, self.is_granted),
        )

    def copy(self) -> "Maker":
        new = Maker.__new__(Maker)
        new.__dict__.update(self.__dict__)
        new.owner = copy_of(self.owner)
        return new

    @property
    def lives(self) -> int:
        """The epoch that it works under, or 0."""
        if self.claimed is not None:
            return self.claimed.view.epoch
        return self.owner.epoch if self.owner is not None else 0

    @property
    def _work(self) -> Owner:
        assert self.owner is not None
        return self.owner

    # moves that the store has no part in

    def local_moves(self) -> list[Move]:
        moves: list[Move] = []

        def add(label: str, kind: str, change: Callable[[Maker], None]) -> None:
            def act() -> tuple[Maker, None]:
                new = self.copy()
                change(new)
                return new, None

            moves.append(attempt(label, act, kind))

        call = words(self.call) if self.call is not None else ""
        if self.answer is not None:
            add(f"{{}} hears that {call}: {self.answer.outcome}", "", Maker._hear_answer)
            add(f"the answer to {call} by {{}} is lost", "drops", Maker._lose_call)
        elif self.call is not None:
            add(f"{call} by {{}} is lost", "drops", Maker._lose_call)
            add(f"{{}} gives {call} up while it is under way", "lates", Maker._give_up)
        if self.renewed is not None:
            add(f"{{}} hears of its lease: {self.renewed.outcome}", "", Maker._hear_renewed)
            add("the answer to the renewal by {} is lost", "drops", Maker._lose_renewal)
        if self.wakes:
            wake = self.wakes[0].position
            lost = wake.outcome is Outcome.FENCED
            what = "that it lost the request" if lost else f"of {wake.acked_tokens} acked tokens"
            add(f"{{}} hears {what}", "", Maker._hear_wake)
            add(f"the news {what} is lost for {{}}", "drops", Maker._lose_wake)
        if self._may_decode and (self.is_granted or not self.paced):
            add(f"{{}} generates token {self._generated + 1}", "", Maker._decode)
        elif self._may_decode:
            add(f"{{}} is granted token {self._generated + 1}", "", Maker._grant)
        if self.owner is not None and self.renewal is None:
            add("{} renews its lease", "timers", Maker._renew)
        if self.lives:
            add("{} crashes", "crashes", Maker._crash)
        return moves

    @property
    def _generated(self) -> int:
        return self.owner.producer.generated_tokens if self.owner else 0

    @property
    def _may_decode(self) -> bool:
        if self.owner is None or not self.owner.is_held or self.owner.finished:
            return False
        limit = self.owner.producer.limit
        return self._generated < self.tokens and (limit is None or self._generated < limit)

    def _grant(self) -> None:
        self.is_granted = True

    def _decode(self) -> None:
        self.is_granted = False
        owner, token = self._work, self._generated + 1
        owner.on_piece(f"{token}@{owner.epoch} ", (token,), self.clock_s)
        window = owner.producer.window
        ahead = self._generated - window.acked_tokens
        if ahead > window.size:
            raise Violation(f"P5: {ahead} tokens ahead of the acks, a window of {window.size}")
        self._end_if_all()
        self._pump()

    def _end_if_all(self) -> None:
        if self._generated >= self.tokens:
            self._work.on_piece("", (), self.clock_s, finish_reason="stop")

    def _pump(self) -> None:
        """Take what is due. Whatever is to come of a request that is gone concerns nobody."""
        owner = self._work
        if owner.state is OwnerState.GONE or (owner.state is OwnerState.ENDED and not self.keeps):
            self._drop()
            return
        due = owner.deadline()
        if due is not None and due <= self.clock_s:
            self.call = owner.take(self.clock_s, self.run_id)

    def _drop(self) -> None:
        """Forget the request. Calls under way stay so, and nobody hears of their answers."""
        pending: list[Call | None] = [self.call if self.answer is None else None]
        pending.append(self.renewal if self.renewed is None else None)
        self.late = in_order(*self.late, *filter(None, pending))
        self.claimed = self.owner = self.call = self.answer = self.renewal = self.renewed = None
        self.renewed_s = 0.0
        self.wakes = ()
        self.run_id, self.clock_s = "", 0.0
        self.is_granted = False

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

    def _renew(self) -> None:
        self.renewal, self.renewed_s = renewal(self._work), self.clock_s

    def _hear_answer(self) -> None:
        assert self.answer is not None
        answer, self.call, self.answer = self.answer, None, None
        if self._work.on_answer(answer, self.run_id, self.clock_s) is Update.SUSPECTED:
            self._ask()
        self._pump()

    def _hear_renewed(self) -> None:
        assert self.renewed is not None
        assert self.renewal is not None
        answer, log_id = self.renewed, self.renewal.leases[0][2]
        self.renewal = self.renewed = None
        self._work.on_renewed(answer, self.renewed_s, log_id, self.run_id, self.clock_s)
        self._pump()

    def _hear_wake(self) -> None:
        wake, self.wakes = self.wakes[0], self.wakes[1:]
        if self._work.on_news(wake, self.clock_s) is Update.SUSPECTED:
            self._ask()
        self._pump()

    def _ask(self) -> None:
        if self.renewal is None:
            self._renew()

    # what others do to it

    def woken(self, wakes: tuple[News, ...]) -> "Maker":
        if self.owner is None:
            return self
        new = self.copy()
        for wake in wakes:
            new._tell(wake)
        return new

    def _tell(self, wake: News) -> None:
        """As with an edge's news: what says nothing new is as good as heard, and so on."""
        if wake.epoch != self._work.epoch:
            return
        if wake.position.outcome is not Outcome.OK:
            self.wakes += (wake,)
        elif wake.position.acked_tokens > self._work.producer.window.acked_tokens:
            if self.wakes and self.wakes[-1].position.outcome is Outcome.OK:
                self.wakes = self.wakes[:-1]
            self.wakes += (wake,)

    def met(self, depot: Depot) -> "Maker":
        """Time has passed at the store, or it is another one."""
        clock_s = depot.clock / 1000 if self.gives_back else 0.0
        run_id = depot.store.run_id
        if self.owner is None or (self.clock_s, self.run_id) == (clock_s, run_id):
            return self
        new = self.copy()
        new.clock_s, new.run_id = clock_s, run_id
        return new

    def cut_off(self) -> "Maker":
        """The store restarted: what was under way is lost, and every position is reported."""
        new = self.copy()
        new.late, new.wakes, new.answer, new.renewed = (), (), None, None
        if new.owner is not None:
            if new.call is not None:
                new._lose_call()
            if new.owner is not None:
                new._renew()
        elif new.claimed is not None:
            new._give_claim_back()
        return new

    def _give_claim_back(self) -> None:
        """Nothing came of a claim. It is given back until the store has heard of it."""
        assert self.claimed is not None
        release = Release(REQUEST, OWNER, self.claimed.view.epoch)
        self._drop()
        self.late = in_order(*self.late, release)

    # moves at the store

    def moves(self, depot: Depot) -> list[Move]:
        moves: list[Move] = []
        if self.call is not None and self.answer is None:
            label = f"{words(self.call)} by {{}} reaches the store"
            moves.append(attempt(label, lambda: self._do_call(depot)))
        if self.renewal is not None and self.renewed is None:
            label = f"{words(self.renewal)} by {{}} reaches the store"
            moves.append(attempt(label, lambda: self._do_renewal(depot)))
        if self.claimed is not None:
            moves.append(attempt("{} reads the log", lambda: (self._take(depot), depot)))
        # One that has it does not claim it again. As both have the same name, the other's
        # claim together with this one's crash is the same.
        is_free = self.owner is None or self.owner.state is OwnerState.ENDED
        if depot.claimable and self.claimed is None and is_free:
            moves.append(attempt("{} claims the request", lambda: self._claim(depot)))
        return moves

    def late_moves(self, depot: Depot) -> list[Move]:
        return [
            attempt(
                f"{words(call)} by {{}} reaches the store late",
                lambda call=call: self._do_late(depot, call),
            )
            for call in dict.fromkeys(self.late)
        ]

    def _do_call(self, depot: Depot) -> tuple["Maker", Depot]:
        assert self.call is not None
        new = self.copy()
        new.answer, after = perform(self.call, depot)
        return new, after

    def _do_renewal(self, depot: Depot) -> tuple["Maker", Depot]:
        assert self.renewal is not None
        new = self.copy()
        new.renewed, after = perform(self.renewal, depot)
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
            new.claimed = claimed
            new.clock_s = depot.clock / 1000 if self.gives_back else 0.0
        return new, after

    def _take(self, depot: Depot) -> "Maker":
        """Take the request up where its log ends, if that is where it was claimed."""
        new = self.copy()
        claimed, history, asked_s = self.claimed, depot.log(), self.clock_s
        assert claimed is not None
        if judge(claimed, history, depot.store.run_id) is not Verdict.WHOLE:
            new._give_claim_back()
            return new
        new.claimed, new.owner = None, owner_of(claimed, history, asked_s)
        new = new.met(depot)
        new._end_if_all()
        new._pump()
        return new
