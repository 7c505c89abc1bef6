"""What a generator claims, and when, and the steps before it works on a claim (P4, P15, P17).

Events come in with ``now``, in seconds. Afterwards, ``outbox`` holds pairs of (the claim that it is
for, command), and ``taken_up`` holds the claims that can be worked on. ``deadline`` says when
``on_time`` has something to do. A shell drains the lists after each event and reports the result of
each command.

A wake-up names a partition in which a request waits. Wake-ups may be lost, and a lapsing lease
sends none. So a slow poll asks the store what waits, oldest first.

While the store is away, leases lapse and claims may be forgotten although their owners live. Owners
report as soon as they are connected again. So nobody claims before both connections, for calls and
for subscriptions, have been up for the grace period (P15.3). To continue elsewhere would cost a
prefill, and perhaps fork the log.

    claim -> read the log -> subscribe -> work on it

A claim that fails on the way is given back, so that nobody waits for it to lapse. It does not count
as a try of the request (P15.4). A request that nobody can work on fails with a reason.

A request that was claimed in vain before may be what ended its generator. A generator works on one
such request at a time, so that it takes no other request along (P15.17).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import cast

from lore.protocol.chunk import Chunk
from lore.protocol.commands import (
    Claim,
    Finish,
    Look,
    Meet,
    Others,
    ReadLog,
    Release,
    Subscribe,
    Unsubscribe,
    Waiting,
)
from lore.protocol.leases import Leases
from lore.protocol.lifecycle import Status
from lore.protocol.messages import Claimed, View
from lore.protocol.owner_types import Terms
from lore.protocol.presence import Looking, Presence

MAX_TRIES = 3
"""How many claims of a request may come to nothing before it fails (P15.18)."""
AWAY_POLL_S = 0.2
"""How often to ask for a store that is away. Asking is cheap while there is no connection."""
GIVE_BACK_RETRY_S = 0.25
LEFT_MS = 10_000
"""How long answers of another model are left to generators that have it (P15.22)."""

FAILS = f"the model failed on this request {MAX_TRIES} times"
BROKEN = "a part of the answer was lost with a store's data"
UNREADABLE = "the request was kept in a form that this version cannot read"


def other_model(before: str, now: str) -> str:
    return f"the answer was begun by the model {before}, and {now} must not continue it"


@dataclass(eq=False, slots=True)
class Candidate:
    """A claim under way, until its request is worked on, given back or failed."""

    partition: int
    takes_any: bool
    """Whether it may take a request that was claimed in vain before."""
    asked_s: float
    heard_s: float = math.inf
    """When the claim was answered: its lease ends at most one lease length later."""
    claimed: Claimed | None = None
    history: Sequence[Chunk] = ()
    subscribed: bool = False


class Verdict(StrEnum):
    """The verdict on the log of a claimed request."""

    WHOLE = "whole"
    NOT_OURS = "not_ours"
    BROKEN = "broken"


Command = Waiting | Meet | Look | Claim | ReadLog | Subscribe | Unsubscribe | Release | Finish
Subject = Candidate | Looking | None


class Claims:
    def __init__(
        self,
        config: Terms,
        leases: Leases,
        *,
        slots: int,
        max_requests: int,
        poll_s: float,
        grace_s: float,
        partitions: Sequence[int],
        run_id: Callable[[int], str],
        is_ready: Callable[[int], bool],
        engine_answers: Callable[[], bool],
        jitter: Callable[[], float],
        now: float,
        model: str = "",
        takes_other_models: bool = False,
    ) -> None:
        """``is_ready``: both connections to the partition's server are up, and this generator is
        heard there. ``jitter`` returns a new number between 0.5 and 1. While the engine does not
        answer, nothing is claimed, but the other generators are still looked for.
        ``takes_other_models``: whether to continue answers that another model than ``model`` began
        (P15.20).
        """
        self.outbox: list[tuple[Subject, Command]] = []
        self.taken_up: list[Candidate] = []
        self.refused: list[tuple[Candidate, str]] = []
        """Requests to fail, with the reason."""
        self.closed = False
        self.store_answers = True
        self._config = config
        self._leases = leases
        self._slots = slots
        self._max_requests = max_requests
        self._poll_every_s = poll_s
        self._grace_s = grace_s
        self._run_id = run_id
        self._is_ready = is_ready
        self._engine_answers = engine_answers
        self._jitter = jitter
        self._model = model
        self._takes_other_models = takes_other_models
        self._waiting: dict[int, None] = {}
        """Partitions to claim from, in order."""
        self.under_way: dict[Candidate, None] = {}
        """Claims that are not taken up yet."""
        self._returns: dict[Candidate, tuple[float, Release | Finish]] = {}
        """Releases and ends that got no answer, and when to repeat them."""
        self._from_s = now
        """No claim is made before this time."""
        self._poll_s = now
        self._polling = False
        self._presence = Presence(
            *(config.owner, partitions),
            run_id=run_id,
            is_ready=is_ready,
            now=now,
        )

    @property
    def is_idle(self) -> bool:
        """Whether no claim is under way."""
        return not self.under_way

    @property
    def watched(self) -> int:
        """How many other generators this one watches for their end."""
        return self._presence.watched

    @property
    def room(self) -> int:
        """How many more requests may be claimed. A parked request takes no place in the batch."""
        leases = self._leases
        free = min(self._slots - leases.decoding, self._max_requests - len(leases.live))
        return free - len(self.under_way)

    def waiting(self, now: float) -> int:
        """How many requests want a place here: those on their way, and one in each partition where
        some wait that this generator would claim if it had room (P20).
        """
        is_full = len(self._leases.live) + len(self.under_way) >= self._max_requests
        if is_full or self.closed or now < self._from_s or not self.store_answers:
            return len(self.under_way)
        ready = self._waiting if self._engine_answers() else ()
        return len(self.under_way) + sum(map(self._is_ready, ready))

    def close(self) -> None:
        """Stop claiming; claims under way are given back."""
        self.closed = True

    # what may wait

    def on_wake(self, partition: int, now: float) -> None:
        self._waiting[partition] = None
        self.pump(now)

    def on_store_back(self, now: float) -> None:
        """The lost subscriptions are back: let the owners report first."""
        self._from_s = max(self._from_s, now + self._grace_s)
        self._poll_s = min(self._poll_s, self._from_s)
        self._presence.on_store_back()

    def pump(self, now: float) -> None:
        """Claim while there is room and something may be waiting."""
        if self.closed or now < self._from_s or not self.store_answers:
            return
        for partition in list(self._waiting):
            if self.room <= 0:
                return
            if self._engine_answers() and self._is_ready(partition):
                del self._waiting[partition]
                self._claim(partition, now)

    def _claim(self, partition: int, now: float) -> None:
        tried = self._leases.on_trial or any(other.takes_any for other in self.under_way)
        candidate = Candidate(partition, not tried, now)
        self.under_way[candidate] = None
        lease_ms, silent = self._config.lease_ms, self._presence.silent
        others = Others(self._model, LEFT_MS) if self._model else None
        command = Claim(partition, self._config.owner, lease_ms, tried, silent, others)
        self.outbox.append((candidate, command))

    # time

    def deadline(self) -> float:
        again_s = min((due for due, _ in self._returns.values()), default=math.inf)
        poll_s = math.inf if self._polling else self._poll_s
        return min(again_s, poll_s, self._presence.deadline())

    def on_time(self, now: float) -> None:
        for candidate, (due, command) in list(self._returns.items()):
            if due <= now:
                del self._returns[candidate]
                self.outbox.append((candidate, command))
        if self._poll_s <= now and not self._polling:
            self._polling = True
            self._poll_s = math.inf
            self.outbox.append((None, Waiting(self._config.lease_ms, self._presence.silent)))
            self._presence.meet()
        if self._presence.on_time(now) and self.store_answers:
            self._leases.say_alive(self._presence.unheard, now)
        self.outbox += self._presence.take()

    # what the store says

    def on_answer(self, subject: Subject, command: Command, answer: object, now: float) -> None:
        if isinstance(command, Look):
            assert isinstance(subject, Looking)
            if self._presence.on_looked(subject, command, cast("list[str]", answer), now):
                self._poll_s = now  # there is something to claim
            return
        if isinstance(command, Meet):
            self._presence.on_met(cast("list[str]", answer))
            return
        if not isinstance(subject, Candidate):
            self._on_waiting(answer, now)
            return
        if isinstance(command, Claim):
            self._on_claimed(subject, answer, now)
        elif isinstance(command, ReadLog):
            self._on_log(subject, answer, now)
        elif isinstance(command, Subscribe):
            self._on_guarded(subject, now)
        elif isinstance(command, Release | Finish):
            self._settle(subject, now)

    def on_lost(self, subject: Subject, command: Command, now: float) -> None:
        """A command got no answer."""
        if isinstance(subject, Looking):
            self._presence.on_lost(subject)
        elif isinstance(command, Meet | Unsubscribe):
            pass  # the next poll announces it again; nobody waits for the other
        elif subject is None:
            self._polling, self.store_answers = False, False
            self._poll_s = now + AWAY_POLL_S
        elif isinstance(command, Claim):
            self._settle(subject, now)  # if the claim was made all the same, it lapses
        elif isinstance(command, ReadLog | Subscribe):
            self._give_back(subject, now)
        elif isinstance(command, Release | Finish) and self._may_be_ours(subject, now):
            self._returns[subject] = (now + GIVE_BACK_RETRY_S, command)
        else:
            self._settle(subject, now)  # it has lapsed

    def _may_be_ours(self, candidate: Candidate, now: float) -> bool:
        return now < candidate.heard_s + self._config.lease_s

    def _on_waiting(self, answer: object, now: float) -> None:
        found = cast("list[tuple[int, int]]", answer)
        self._polling = False
        self._poll_s = min(self._poll_s, now + self._poll_every_s * (0.25 + self._jitter()))
        if now < self._from_s:
            self._poll_s = min(self._poll_s, self._from_s)
        if not self.store_answers:
            self.store_answers = True
            self.on_store_back(now)
        # The oldest requests come first, before wake-ups that came while the store answered.
        self._waiting = dict.fromkeys(partition for _, partition in found) | self._waiting
        self.pump(now)

    def _on_claimed(self, candidate: Candidate, answer: object, now: float) -> None:
        if answer is None:
            self._settle(candidate, now)
            return
        assert isinstance(answer, Claimed)
        candidate.claimed, candidate.heard_s, view = answer, now, answer.view
        # More may wait in this partition. It goes to the end of the line, so that no partition
        # starves.
        self._waiting[candidate.partition] = None
        if self.closed:
            self._give_back(candidate, now)
        elif view.tries > MAX_TRIES:
            self.refuse(candidate, FAILS)
        elif view.next_seq > 1:
            self.outbox.append((candidate, ReadLog(view.request_id)))
        else:
            self.outbox.append((candidate, Subscribe(view.request_id, view.epoch)))

    def _on_log(self, candidate: Candidate, answer: object, now: float) -> None:
        assert candidate.claimed is not None
        candidate.history = cast("list[Chunk]", answer)
        view = candidate.claimed.view
        verdict = judge(candidate.claimed, candidate.history, self._run_id(candidate.partition))
        if verdict is Verdict.NOT_OURS:
            self._give_back(candidate, now)
        elif verdict is Verdict.BROKEN:
            self.refuse(candidate, BROKEN)
        elif self._is_other_model(view):
            self.refuse(candidate, other_model(view.model, self._model))
        else:
            self.outbox.append((candidate, Subscribe(view.request_id, view.epoch)))

    def _is_other_model(self, view: View) -> bool:
        """Whether its tokens are another model's, so that it must not be continued here (P15.20).
        Owners of an older release do not say their model.
        """
        return not self._takes_other_models and view.model not in ("", self._model)

    def _on_guarded(self, candidate: Candidate, now: float) -> None:
        assert candidate.claimed is not None
        candidate.subscribed = True
        view = candidate.claimed.view
        if self.closed:
            self._give_back(candidate, now)
        elif self._leases.has_newer(view.request_id, view.epoch):
            self._settle(candidate, now)  # taken from us meanwhile, and ours again since
        else:
            self.taken_up.append(candidate)

    def on_taken_up(self, candidate: Candidate, now: float) -> None:
        """``Leases`` is responsible for the request from here on."""
        self._settle(candidate, now)

    def _give_back(self, candidate: Candidate, now: float) -> None:
        """Give a claim back that failed on the way. It does not count as a try (P15.4).

        The cause may persist, so nothing is claimed for a moment.
        """
        assert candidate.claimed is not None
        view = candidate.claimed.view
        self._from_s = max(self._from_s, now + GIVE_BACK_RETRY_S)
        self._unguard(candidate)
        self.outbox.append((candidate, Release(view.request_id, self._config.owner, view.epoch)))

    def refuse(self, candidate: Candidate, error: str) -> None:
        """Fail a request that nobody can work on, with a reason that its reader sees (P17.1)."""
        assert candidate.claimed is not None
        view = candidate.claimed.view
        self.refused.append((candidate, error))
        self._unguard(candidate)
        command = Finish(
            view.request_id,
            self._config.owner,
            view.epoch,
            view.next_seq,
            Status.FAILED,
            "error",
            error,
            view.prompt_tokens,
            self._config.retention_ms,
            view.log_id,
        )
        self.outbox.append((candidate, command))

    def _unguard(self, candidate: Candidate) -> None:
        if candidate.subscribed:
            assert candidate.claimed is not None
            view = candidate.claimed.view
            self.outbox.append((candidate, Unsubscribe(view.request_id, view.epoch)))

    def _settle(self, candidate: Candidate, now: float) -> None:
        self.under_way.pop(candidate, None)
        self._returns.pop(candidate, None)
        self.pump(now)


def judge(claimed: Claimed, history: Sequence[Chunk], run_id: str) -> Verdict:
    """Judge whether to continue a request after this log, read in the life ``run_id`` (P15.5,
    P15.6).
    """
    wanted = claimed.view.next_seq - 1
    if len(history) == wanted:
        return Verdict.WHOLE
    if len(history) > wanted or run_id != claimed.run_id:
        # Another owner continues the log, or a part was forgotten since the claim. To continue here
        # would put other chunks into a log of which readers may have more. The next claim forks it.
        return Verdict.NOT_OURS
    # Any other generator would find the same log, and give the claim back as well.
    return Verdict.BROKEN
