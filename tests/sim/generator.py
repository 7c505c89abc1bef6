"""A generator's shell: carries out what ``lore/protocol`` decides, decodes in virtual time."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lore.protocol.assembly import CoalesceConfig
from lore.protocol.claims import Candidate, Claims
from lore.protocol.commands import Claim, Guard, ReadLog, Release, Unguard, Waiting
from lore.protocol.leases import Leases
from lore.protocol.messages import News, Outcome
from lore.protocol.owner import Owner, Terms, Turn
from lore.protocol.producer import Producer
from lore.protocol.window import WindowConfig
from lore.store.keys import partition_of
from tests.sim.model import Decoding
from tests.sim.store import StoreNode
from tests.sim.world import Node, Timer, World

SLOTS = 3
RETENTION_MS = 1_000_000


@dataclass(eq=False)
class Job:
    """What the engine has of one request."""

    owner: Owner
    decoding: Decoding
    decode: Timer
    largest_window: int
    dies_at: int | None = None
    """The tokens at which it kills its generator."""


class Generator(Node):
    def __init__(self, world: World, name: str, store: StoreNode) -> None:
        super().__init__(world, name)
        self.store = store
        self.jobs: dict[Owner, Job] = {}
        self.draining = False
        self.die: Callable[[], None] = self.crash
        self._timer = Timer(self, self._on_time)
        store.clients.append(self)
        store.on_wake(self, self._on_wake)
        self.start()

    def start(self) -> None:
        self.up = True
        self.draining = False
        world, store = self.world, self.store
        terms = Terms(f"{self.name}.{self.incarnation}", world.options.lease_s, RETENTION_MS)
        self.leases = Leases(
            terms, max_kept=100, run_id=self._run_id, jitter=self._jitter, now=world.now
        )
        self.claims = Claims(
            terms,
            self.leases,
            slots=SLOTS,
            max_requests=100,
            poll_s=world.options.poll_s,
            grace_s=world.options.grace_s,
            run_id=self._run_id,
            is_ready=lambda _: store.is_heard_by(self),
            jitter=self._jitter,
            now=world.now,
        )
        self._timer = Timer(self, self._on_time)
        store.hear(self)
        store.safety.started[self.name] = world.now
        self._on_time()

    def _run_id(self, _: int) -> str:
        return self.store.state.run_id

    def _jitter(self) -> float:
        return self.world.random.uniform(0.5, 1.0)

    def crash(self) -> None:
        self.world.say(f"{self.name} crashed")
        super().crash()
        self.store.hang_up(self)
        self.jobs.clear()

    def drain(self) -> None:
        """Claim no more, and hand everything back (P15)."""
        self.draining = True
        self.world.say(f"{self.name} drains")
        self.claims.close()
        self.leases.drain(self.world.now, failed=False)
        self._transmit()

    @property
    def owner(self) -> str:
        return self.leases.config.owner

    def holds(self, request_id: str, epoch: int) -> bool:
        owner = self.leases.live.get(request_id)
        return owner is not None and owner.epoch == epoch

    def works_on(self, request_id: str, epoch: int) -> bool:
        """Or is about to, or hands it back."""
        if self.holds(request_id, epoch):
            return True
        claims = (one.claimed for one in self.claims.under_way if one.claimed is not None)
        return any((c.view.request_id, c.view.epoch) == (request_id, epoch) for c in claims)

    # events

    def on_store_reset(self) -> None:
        self.claims.on_store_back(self.world.now)
        self.leases.on_store_back(self.world.now)
        self._transmit()

    def _on_wake(self, partition: int) -> None:
        self.claims.on_wake(partition, self.world.now)
        self._transmit()

    def _on_news(self, request_id: str, news: News) -> None:
        owner = self.leases.live.get(request_id)
        if owner is not None:
            self.leases.on_news(owner, news, self.world.now)
            self._transmit(owner)

    def _on_time(self) -> None:
        self.leases.on_time(self.world.now)
        self.claims.on_time(self.world.now)
        self._transmit()

    # commands

    def _transmit(self, *touched: Owner) -> None:
        for owner in touched:
            self._refresh(owner)
        leases, claims = self.leases, self.claims
        claims.pump(self.world.now)
        while leases.outbox or leases.turns or claims.outbox or claims.taken_up or claims.refused:
            self._hear_turns()
            for machine in (leases, claims):
                outbox, machine.outbox = machine.outbox, []
                for subject, command in outbox:
                    self._carry(machine, subject, command)
            taken_up, claims.taken_up = claims.taken_up, []
            for candidate in taken_up:
                self._take(candidate)
        self._timer.arm(min(leases.deadline(), claims.deadline()))

    def _carry(self, machine: Any, subject: Any, command: Any) -> None:
        def answer(result: Any) -> None:
            if result is None:
                machine.on_lost(subject, command, self.world.now)
            else:
                machine.on_answer(subject, command, result[0], self.world.now)
            owners = getattr(subject, "owners", (subject,))
            self._transmit(*(owner for owner in owners if isinstance(owner, Owner)))

        store = self.store
        self._check(command)
        match command:
            case Claim():
                store.claim(self, answer, command)
            case Guard(request_id):
                store.guard(self, request_id, self._on_news, answer)
            case Unguard(request_id):
                store.unguard(self, request_id)
            case ReadLog(request_id):
                store.do(self, answer, lambda now_ms: (store.state.log(request_id, now_ms=now_ms),))
            case Waiting(lease_ms):
                wait = functools.partial(store.state.waiting, lease_ms=lease_ms)
                store.do(self, answer, lambda now_ms: (wait(now_ms=now_ms),))
            case _:
                store.carry(self, answer, command)

    def _check(self, command: Any) -> None:
        safety = self.store.safety
        if isinstance(command, Claim):
            safety.on_claim(self.name, self.world.now, self.store.heard_since(self))
        elif isinstance(command, Release):
            safety.expect(not command.failed, "P15", "a failure, and no engine has failed")

    def _hear_turns(self) -> None:
        turns, self.leases.turns = self.leases.turns, []
        for owner, turn, position in turns:
            self.world.say(f"{self.name} {owner.request_id}: {turn}")
            if turn is Turn.LET_GO:
                self.store.safety.on_let_go(owner, self.store.state)
            elif turn is Turn.TAKEN and position and not self.draining:
                self.store.safety.on_taken(owner, position, self.store.state)
                if position.outcome is Outcome.CONFLICT:
                    self.world.injected["conflict (seen)"] += 1
            if owner.state == "gone":
                job = self.jobs.pop(owner, None)
                if job is not None:
                    job.decode.arm(None)
            else:
                self._refresh(owner)
        refused, self.claims.refused = self.claims.refused, []
        for candidate, error in refused:
            assert candidate.claimed is not None
            self.world.injected["poisonous (seen)"] += 1
            self.store.safety.on_refused(candidate.claimed.view.request_id, error)

    # decoding

    def _take(self, candidate: Candidate) -> None:
        claimed, options, now = candidate.claimed, self.world.options, self.world.now
        assert claimed is not None
        view, history = claimed.view, list(candidate.history)
        config = WindowConfig(
            options.window_tokens, options.window_maximum_tokens, options.window_silence_s
        )
        if options.fixed_window:
            config = WindowConfig.fixed(options.window_tokens)
        window = options.window(
            config,
            size=view.window,
            acked_tokens=view.acked_tokens,
            generated_tokens=view.generated_tokens,
        )
        producer = Producer(history, window, CoalesceConfig())
        owner = Owner(
            claimed, partition_of(view.request_id), producer, self.leases.config, candidate.asked_s
        )
        fails = claimed.body == "fails"
        self.jobs[owner] = job = Job(
            owner,
            Decoding(view.epoch, history, options.answer_tokens, fails=fails),
            decode=Timer(self, lambda: self._decode(job)),
            largest_window=max(view.window, 1),
            dies_at=options.answer_tokens // 2 if claimed.body == "poison" else None,
        )
        self.leases.add(owner, now)
        self.store.safety.on_trial(self.name, list(self.leases.live.values()))
        self.claims.on_taken_up(candidate, now)
        self.leases.note(owner)
        job.decode.arm(now + options.step_s)  # its prompt is read first

    def _decode(self, job: Job) -> None:
        owner, decoding = job.owner, job.decoding
        if owner not in self.jobs or self.draining or not self.leases.holds(owner):
            return
        if job.dies_at is not None and decoding.generated >= job.dies_at and not owner.parked:
            self.store.safety.on_poisoned(owner.request_id, self.store.state)
            self.die()
            return
        now = self.world.now
        if decoding.finish_reason is not None:
            if not owner.finished:
                owner.on_piece("", (), now, finish_reason=decoding.finish_reason)
                self.leases.pump(owner, now)
                self._transmit(owner)
            return
        text, token_ids = decoding.step(self.world.options.tokens_per_step, owner.producer.limit)
        if token_ids:
            owner.on_piece(text, token_ids, now)
            self.leases.pump(owner, now)
            self._transmit(owner)
            self.store.safety.on_decoded(
                *(owner.request_id, owner.producer.generated_tokens, owner.producer.limit),
                job.largest_window,
            )
            job.decode.arm(now + self.world.options.step_s)

    def _refresh(self, owner: Owner) -> None:
        """The credit may have grown: decode, unless a step is due anyway."""
        job = self.jobs.get(owner)
        if job is None:
            return
        self.leases.note(owner)
        job.largest_window = max(job.largest_window, owner.producer.window.size)
        if job.decode.idle and (not owner.parked or job.decoding.finish_reason is not None):
            job.decode.arm(self.world.now + self.world.options.step_s)
