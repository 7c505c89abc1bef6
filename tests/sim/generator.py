"""A generator's shell: carries out what ``lore/protocol`` decides, decodes in virtual time."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lore.protocol.claims import Candidate, Claims
from lore.protocol.commands import Append, Claim, ReadLog, Release, Subscribe, Unsubscribe
from lore.protocol.leases import Leases
from lore.protocol.lifecycle import Status
from lore.protocol.messages import News, Outcome, Position
from lore.protocol.owner import Owner
from lore.protocol.owner_channels import OwnerChannels
from lore.protocol.owner_types import OwnerState, Terms, Update
from lore.protocol.producer import CoalesceConfig, Producer
from lore.protocol.window import WindowConfig
from lore.store.keys import partition_of
from tests.sim.model import Decoding
from tests.sim.store import StoreNode
from tests.sim.world import Node, Timer, World

RETENTION_MS = 1_000_000


@dataclass(eq=False)
class Job:
    """What the engine has of one request."""

    owner: Owner
    decoding: Decoding
    decode: Timer
    largest_window: int
    prompt_steps: int
    """Steps until its prompt is read."""
    dies_at: int | None = None
    """The tokens at which it kills its generator."""
    granted: int | None = 0
    """The credit that the engine knows."""

    @property
    def may_decode(self) -> bool:
        may = self.granted is None or self.decoding.generated < self.granted
        return may and not self.owner.parked


class Generator(Node):
    def __init__(self, world: World, name: str, store: StoreNode) -> None:
        super().__init__(world, name)
        self.store = store
        self.jobs: dict[Owner, Job] = {}
        self.draining = self.failed = False
        self.unheard = 0
        """Calls since it began to drain that got no answer."""
        self.die: Callable[[], None] = self.crash
        self._timer = Timer(self, self._on_time)
        store.clients.append(self)
        store.generators.append(self)
        store.on_wake(self, self._on_wake)
        self.start()

    def start(self) -> None:
        self.up = True
        self.draining = self.failed = False
        world, store = self.world, self.store
        self._owner_channels = OwnerChannels()
        terms = Terms(f"{self.name}.{self.incarnation}", world.options.lease_s, RETENTION_MS)
        self.leases = Leases(
            terms,
            max_kept=100,
            run_id=self._run_id,
            jitter=self._jitter,
            now=world.now,
            pace=world.options.pace_config,
            slots=world.options.slots,
        )
        self.claims = Claims(
            terms,
            self.leases,
            slots=world.options.slots,
            max_requests=100,
            poll_s=world.options.poll_s,
            grace_s=world.options.grace_s,
            partitions=[partition_of(f"r{i}") for i in range(world.options.requests)],
            run_id=self._run_id,
            is_ready=lambda _: store.is_heard_by(self),
            engine_answers=lambda: True,
            jitter=self._jitter,
            now=world.now,
        )
        self._timer = Timer(self, self._on_time)
        world.connect(self, store)
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

    def drain(self, *, failed: bool = False) -> None:
        """Claim no more, and hand everything back (P15), as the engine ``failed`` or not."""
        self.draining, self.failed, self.unheard = True, failed, 0
        self.world.say(f"{self.name} drains")
        self.claims.close()
        self.leases.drain(self.world.now, failed=failed)
        self._transmit()

    def check_drained(self) -> None:
        """P15: what is still here waits for an answer, and what is not was handed back."""
        store, now_ms = self.store, self.world.now_ms
        ours = (o for o in self.jobs if o.state not in (OwnerState.ENDED, OwnerState.GONE))
        held = {(owner.request_id, owner.epoch): owner for owner in ours}
        for owner in held.values():
            waits = owner.is_calling or self.unheard or self.frozen_until
            text = f"{self.name} has not handed {owner.request_id} back"
            store.safety.expect(bool(waits), "P15", text)
        for view in () if store.safety.may_forget else store.state.live(now_ms=now_ms):
            lease = (view.request_id, view.epoch)
            if view.owner == self.owner and now_ms < view.lease_until_ms:
                known = lease in held or lease in store.unheard or self.works_on(*lease)
                text = f"{self.name} forgot to hand {view.request_id} back"
                store.safety.expect(known, "P15", text)

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
        self._share()
        while leases.has_work or claims.outbox or claims.taken_up or claims.refused:
            self._hear_turns()
            step, leases.appends = leases.appends, []
            for owner, command in step:
                self._carry(leases, owner, command)
            for machine in (leases, claims):
                outbox, machine.outbox = machine.outbox, []
                for subject, command in outbox:
                    self._carry(machine, subject, command)
            taken_up, claims.taken_up = claims.taken_up, []
            for candidate in taken_up:
                self._take(candidate)
            self._share()
        due = min(leases.deadline(), leases.pacer.deadline(), claims.deadline())
        self._timer.arm(due)

    def _share(self) -> None:
        """Share the slots (P20), and claim for those that are free then."""
        pacer, now = self.leases.pacer, self.world.now
        waiting = self.claims.waiting(now)
        pacer.on_waiting(waiting)
        if pacer.deadline() <= now:
            for owner, limit in pacer.take(now).grants:
                job = self.jobs[owner]
                job.granted = limit
                self._wake(job)
        self.store.safety.on_shared(self.name, self.leases, waiting)
        self.claims.pump(now)

    def _carry(self, machine: Any, subject: Any, command: Any) -> None:
        def answer(result: Any) -> None:
            if result is None:
                self.unheard += 1
                machine.on_lost(subject, command, self.world.now)
            elif isinstance(command, Append):
                each = [_told(command, *result)]
                life = self._run_id(subject.partition)
                self.leases.on_step([(subject, command)], each, life, self.world.now)
            else:
                machine.on_answer(subject, command, result[0], self.world.now)
            owners = getattr(subject, "owners", (subject,))
            self._transmit(*(owner for owner in owners if isinstance(owner, Owner)))

        store = self.store
        self._check(subject, command)
        match command:
            case Subscribe(request_id, epoch):
                self._owner_channels.begin(request_id, epoch)
                store.subscribe(self, request_id, self._on_news, answer)
            case Unsubscribe(request_id, epoch):
                if self._owner_channels.end(request_id, epoch):
                    store.unsubscribe(self, request_id)
            case ReadLog(request_id):
                store.do(self, answer, lambda now_ms: (store.state.log(request_id, now_ms=now_ms),))
            case _:
                store.carry(self, answer, command)

    def _check(self, subject: Any, command: Any) -> None:
        safety = self.store.safety
        if isinstance(subject, Owner):
            safety.on_command(subject, command)
        if isinstance(command, Claim):
            safety.on_claim(self.name, self.world.now, self.store.heard_since(self))
        elif isinstance(command, Release):
            why = "failed" if self.failed and isinstance(subject, Owner) else None
            safety.expect(command.why == why, "P15", f"released as {command.why}, not {why}")

    def _hear_turns(self) -> None:
        turns, self.leases.turns = self.leases.turns, []
        for owner, turn, position in turns:
            self.world.say(f"{self.name} {owner.request_id}: {turn}")
            if turn is Update.LET_GO:
                self.store.safety.on_let_go(owner, self.store.state)
            elif turn is Update.TAKEN and position and not self.draining:
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
            *(claimed, partition_of(view.request_id), producer, self.leases.config),
            candidate.asked_s,
            pace=None if view.ack == "none" else options.pace,
        )
        fails = claimed.body == "fails"
        self.jobs[owner] = job = Job(
            owner,
            Decoding(view.epoch, history, options.answer_tokens, fails=fails),
            decode=Timer(self, lambda: self._decode(job)),
            largest_window=max(view.window, 1),
            prompt_steps=options.prompt_steps,
            dies_at=options.answer_tokens // 2 if claimed.body == "poison" else None,
        )
        self.leases.add(owner, now)
        self.store.safety.on_trial(self.name, list(self.leases.live.values()))
        self.claims.on_taken_up(candidate, now)
        self.leases.note(owner, now)
        job.decode.arm(now + options.step_s)  # its prompt is read first

    def _decode(self, job: Job) -> None:
        owner, decoding = job.owner, job.decoding
        if owner not in self.jobs or not (self.draining or self.leases.holds(owner)):
            return
        if (
            job.dies_at is not None
            and not self.draining
            and decoding.generated >= job.dies_at
            and job.may_decode
        ):
            self.store.safety.on_poisoned(owner.request_id, self.store.state)
            self.die()
            return
        now = self.world.now
        if job.prompt_steps > 0 and job.may_decode:
            job.prompt_steps -= 1
            self.store.safety.on_prompt_read(owner, self.store.state)
        if job.prompt_steps > 0:
            if job.may_decode:
                job.decode.arm(now + self.world.options.step_s)
            return
        if decoding.finish_reason is not None:
            if not owner.finished:
                owner.on_piece("", (), now, finish_reason=decoding.finish_reason)
                self.leases.pump(owner, now)
                self._transmit(owner)
            return
        text, token_ids = decoding.step(self.world.options.tokens_per_step, job.granted)
        if token_ids:
            if not self.leases.pass_on(owner, text, token_ids, now):
                owner.on_piece(text, token_ids, now)
                self.leases.pump(owner, now)
            self._transmit(owner)
            self.store.safety.on_decoded(
                *(owner.request_id, owner.producer.generated_tokens, owner.producer.limit),
                job.largest_window,
            )
            if not self.draining:  # what was under way when it began comes late
                job.decode.arm(now + self.world.options.step_s)

    def _refresh(self, owner: Owner) -> None:
        """The credit may have grown: decode, unless a step is due anyway."""
        job = self.jobs.get(owner)
        if job is None:
            return
        if self.draining:
            return
        self.leases.note(owner, self.world.now)
        job.largest_window = max(job.largest_window, owner.producer.window.size)
        self._wake(job)

    def _wake(self, job: Job) -> None:
        """Decode, unless a step is due anyway."""
        if job.decode.idle and (job.may_decode or job.decoding.finish_reason is not None):
            job.decode.arm(self.world.now + self.world.options.step_s)


def _told(command: Append, position: Position) -> int | Position:
    """What the store in Valkey says: of what went as it should, the acknowledged tokens."""
    last_seq = command.chunks[-1].seq if command.chunks else 0
    passed = (
        position.outcome is Outcome.OK
        and position.status is Status.GENERATING
        and position.next_seq == last_seq + 1
        and not command.reopen_tokens
    )
    return position.acked_tokens if passed else position
