"""What a generator may claim, and when; and what it does before it works on it (P4, P15, P17).

Events come in with ``now``; pairs of (the claim that it is for, command) lie in ``outbox``
afterwards, and what can be worked on in ``taken_up``. ``deadline`` says when ``on_time`` has
something to do. A shell drains the lists after each event and says what came of each command.

A wake-up names a partition in which a request waits. Wake-ups may be lost and leases lapse in
silence, so a slow poll asks the store what waits, oldest first.

When the store was away, leases have lapsed and claims may be forgotten although their owners
live. They report as soon as they are connected again, so nobody claims before both connections,
for calls and for what is published, are up and have been for the grace: continuing elsewhere
costs a prefill, and perhaps a fork of the log.

    claim -> read the log -> subscribe -> work on it

A claim that does not come to that is given back, so that it need not lapse, and is no try of the
request; one that cannot be worked on by anybody is failed with a reason.

A request that was claimed before and nothing came of it may be what ended its generator. One
such is worked on at a time, so that no other is suspected along with it for long.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import cast

from lore.protocol.chunk import Chunk
from lore.protocol.commands import Claim, Finish, Guard, ReadLog, Release, Unguard, Waiting
from lore.protocol.leases import Leases
from lore.protocol.lifecycle import Status
from lore.protocol.messages import Claimed
from lore.protocol.owner import Terms

MAX_TRIES = 3
"""So many generators may come to nothing over a request before it fails (P15)."""
AWAY_POLL_S = 0.2
"""How often a store that is away is asked. It costs nothing while there is no connection."""
GIVE_BACK_RETRY_S = 0.25

FAILS = f"the model failed on this request {MAX_TRIES} times"
BROKEN = "a part of the answer was lost with a store's data"
UNREADABLE = "the request was kept in a form that this version cannot read"


@dataclass(eq=False, slots=True)
class Candidate:
    """A claim under way, until its request is worked on, given back or failed."""

    partition: int
    takes_any: bool
    """It may bring a request that was claimed in vain before."""
    asked_s: float
    claimed: Claimed | None = None
    history: Sequence[Chunk] = ()
    guarded: bool = False


class Verdict(StrEnum):
    """On the log of a request that was claimed."""

    WHOLE = "whole"
    NOT_OURS = "not_ours"
    BROKEN = "broken"


Command = Waiting | Claim | ReadLog | Guard | Unguard | Release | Finish
Subject = Candidate | None


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
        run_id: Callable[[int], str],
        is_ready: Callable[[int], bool],
        jitter: Callable[[], float],
        now: float,
    ) -> None:
        """``is_ready``: both connections to the server that has a partition are up;
        ``jitter`` is between 0.5 and 1, anew each time."""
        self.outbox: list[tuple[Subject, Command]] = []
        self.taken_up: list[Candidate] = []
        self.refused: list[tuple[Candidate, str]] = []
        """Those that are failed, and why."""
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
        self._jitter = jitter
        self._waiting: dict[int, None] = {}
        """Partitions to claim from, in order."""
        self.under_way: dict[Candidate, None] = {}
        """Claims that wait for something."""
        self._returns: dict[Candidate, tuple[float, Release | Finish]] = {}
        """Answers that did not arrive, and when they are given again."""
        self._from_s = now
        """Nothing is claimed before."""
        self._poll_s = now
        self._polling = False

    @property
    def is_idle(self) -> bool:
        """Whether no claim waits for anything."""
        return not self.under_way

    @property
    def room(self) -> int:
        """How many more requests may be claimed. A parked one takes no place in the batch."""
        leases = self._leases
        free = min(self._slots - leases.decoding, self._max_requests - len(leases.live))
        return free - len(self.under_way)

    def close(self) -> None:
        """Claim nothing more; what is under way is given back."""
        self.closed = True

    # what may wait

    def on_wake(self, partition: int, now: float) -> None:
        self._waiting[partition] = None
        self.pump(now)

    def on_store_back(self, now: float) -> None:
        """What is published is heard again, after it was not: let the owners report first."""
        self._from_s = max(self._from_s, now + self._grace_s)
        self._poll_s = min(self._poll_s, self._from_s)

    def pump(self, now: float) -> None:
        """Claim while there is room and something may wait."""
        if self.closed or now < self._from_s or not self.store_answers:
            return
        for partition in list(self._waiting):
            if self.room <= 0:
                return
            if self._is_ready(partition):
                del self._waiting[partition]
                self._claim(partition, now)

    def _claim(self, partition: int, now: float) -> None:
        tried = self._leases.on_trial or any(other.takes_any for other in self.under_way)
        candidate = Candidate(partition, not tried, now)
        self.under_way[candidate] = None
        command = Claim(partition, self._config.owner, self._config.lease_ms, tried)
        self.outbox.append((candidate, command))

    # time

    def deadline(self) -> float:
        again_s = min((due for due, _ in self._returns.values()), default=math.inf)
        return min(again_s, math.inf if self._polling else self._poll_s)

    def on_time(self, now: float) -> None:
        for candidate, (due, command) in list(self._returns.items()):
            if due <= now:
                del self._returns[candidate]
                self.outbox.append((candidate, command))
        if self._poll_s <= now and not self._polling:
            self._polling = True
            self.outbox.append((None, Waiting(self._config.lease_ms)))

    # what the store says

    def on_answer(self, subject: Subject, command: Command, answer: object, now: float) -> None:
        if subject is None:
            self._on_waiting(answer, now)
            return
        if isinstance(command, Claim):
            self._on_claimed(subject, answer, now)
        elif isinstance(command, ReadLog):
            self._on_log(subject, answer, now)
        elif isinstance(command, Guard):
            self._on_guarded(subject, now)
        elif isinstance(command, Release | Finish):
            self._settle(subject, now)

    def on_lost(self, subject: Subject, command: Command, now: float) -> None:
        """No answer came."""
        if subject is None:
            self._polling, self.store_answers = False, False
            self._poll_s = now + AWAY_POLL_S
        elif isinstance(command, Claim):
            self._settle(subject, now)  # if it happened all the same, it lapses
        elif isinstance(command, ReadLog | Guard):
            self._give_back(subject, now)
        elif isinstance(command, Unguard):
            pass
        elif isinstance(command, Release | Finish) and self._may_be_ours(subject, now):
            self._returns[subject] = (now + GIVE_BACK_RETRY_S, command)
        else:
            self._settle(subject, now)  # it has lapsed

    def _may_be_ours(self, candidate: Candidate, now: float) -> bool:
        return now < candidate.asked_s + self._config.lease_s

    def _on_waiting(self, answer: object, now: float) -> None:
        found = cast("list[tuple[int, int]]", answer)
        self._polling = False
        self._poll_s = now + self._poll_every_s * (0.25 + self._jitter())
        if now < self._from_s:
            self._poll_s = min(self._poll_s, self._from_s)
        if not self.store_answers:
            self.store_answers = True
            self.on_store_back(now)
        # The oldest first, before those whose wake-up came while the store answered.
        self._waiting = dict.fromkeys(partition for _, partition in found) | self._waiting
        self.pump(now)

    def _on_claimed(self, candidate: Candidate, answer: object, now: float) -> None:
        if answer is None:
            self._settle(candidate, now)
            return
        assert isinstance(answer, Claimed)
        candidate.claimed, view = answer, answer.view
        # There may be more where this one was. Last in line, so that no partition starves.
        self._waiting[candidate.partition] = None
        if self.closed:
            self._give_back(candidate, now)
        elif view.tries > MAX_TRIES:
            self.refuse(candidate, FAILS)
        elif view.next_seq > 1:
            self.outbox.append((candidate, ReadLog(view.request_id)))
        else:
            self.outbox.append((candidate, Guard(view.request_id, view.epoch)))

    def _on_log(self, candidate: Candidate, answer: object, now: float) -> None:
        assert candidate.claimed is not None
        candidate.history = cast("list[Chunk]", answer)
        view = candidate.claimed.view
        match judge(candidate.claimed, candidate.history, self._run_id(candidate.partition)):
            case Verdict.WHOLE:
                self.outbox.append((candidate, Guard(view.request_id, view.epoch)))
            case Verdict.NOT_OURS:
                self._give_back(candidate, now)
            case Verdict.BROKEN:
                self.refuse(candidate, BROKEN)

    def _on_guarded(self, candidate: Candidate, now: float) -> None:
        candidate.guarded = True
        if self.closed:
            self._give_back(candidate, now)
        else:
            self.taken_up.append(candidate)

    def on_taken_up(self, candidate: Candidate, now: float) -> None:
        """It is the leases' from here on."""
        self._settle(candidate, now)

    def _give_back(self, candidate: Candidate, now: float) -> None:
        """Nothing came of it, and it is no try of the request (P15).

        What stood in its way may be there still, so nothing is claimed for a moment.
        """
        assert candidate.claimed is not None
        view = candidate.claimed.view
        self._from_s = max(self._from_s, now + GIVE_BACK_RETRY_S)
        self._unguard(candidate)
        self.outbox.append((candidate, Release(view.request_id, self._config.owner, view.epoch)))

    def refuse(self, candidate: Candidate, error: str) -> None:
        """Nobody can work on it: it ends, with a reason that its reader sees (P17)."""
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
        if candidate.guarded:
            assert candidate.claimed is not None
            view = candidate.claimed.view
            self.outbox.append((candidate, Unguard(view.request_id, view.epoch)))

    def _settle(self, candidate: Candidate, now: float) -> None:
        self.under_way.pop(candidate, None)
        self._returns.pop(candidate, None)
        self.pump(now)


def judge(claimed: Claimed, history: Sequence[Chunk], run_id: str) -> Verdict:
    """Whether to continue a request behind this log, read from the life ``run_id`` (P4, P15)."""
    wanted = claimed.view.next_seq - 1
    if len(history) == wanted:
        return Verdict.WHOLE
    if len(history) > wanted or run_id != claimed.run_id:
        # Another goes on in it, or a part was forgotten since the claim: to go on from here would
        # put other chunks into a log that readers may have more of. Who claims it anew forks it.
        return Verdict.NOT_OURS
    # Whoever claimed it would find the same, and hand it back as well.
    return Verdict.BROKEN
