"""A generator's shell: claims, decodes within the credit, appends, renews, hands back."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from lore.protocol.assembly import CoalesceConfig
from lore.protocol.chunk import Chunk
from lore.protocol.fork import fork
from lore.protocol.lifecycle import ENDED, Status
from lore.protocol.producer import Append, Producer
from lore.protocol.window import WindowConfig
from lore.store.base import Claimed, News, Outcome, Position, View
from lore_generator.service import MAX_TRIES
from tests.sim.model import Decoding
from tests.sim.store import StoreNode
from tests.sim.world import Node, Timer, World

POLL_S = 3.0
RETRY_S = 0.3
SLOTS = 3
RETENTION_MS = 1_000_000


@dataclass(eq=False)
class Job:
    """One request under this generator's lease, or finished and kept (P3)."""

    view: View
    producer: Producer
    decoding: Decoding
    send: Timer
    decode: Timer
    largest_window: int
    body: str
    renewed_s: float
    run_id: str
    retry_at: float = 0.0
    giving_back: bool = False
    doubtful: bool = False
    dies_at: int | None = None
    """The tokens at which it kills its generator."""

    @property
    def parked(self) -> bool:
        return self.producer.window.is_closed(self.producer.generated_tokens)


class Generator(Node):
    def __init__(self, world: World, name: str, store: StoreNode) -> None:
        super().__init__(world, name)
        self.store = store
        self.owner = name
        self.jobs: dict[str, Job] = {}
        self.draining = False
        self.die: Callable[[], None] = self.crash
        store.clients.append(self)
        store.on_wake(self, self.look)
        self.start()

    def start(self) -> None:
        self.up = True
        self.draining = False
        self.owner = f"{self.name}.{self.incarnation}"
        self._poll()
        self._heartbeat()

    def crash(self) -> None:
        self.world.say(f"{self.name} crashed")
        super().crash()
        self.jobs.clear()

    # claiming

    def _poll(self) -> None:
        self.look()
        self.world.after(POLL_S, self, self._poll)

    def look(self) -> None:
        busy = sum(1 for job in self.jobs.values() if not job.parked and not job.producer.ended)
        if busy < SLOTS and not self.draining:
            state = self.store.state
            self.store.do(self, self._on_waiting, lambda now_ms: state.waiting(now_ms=now_ms))

    def _on_waiting(self, waiting: list[tuple[int, int]] | None) -> None:
        if waiting and not self.draining:
            _, partition = waiting[0]
            asked_s = self.world.now
            # One that was claimed in vain before is worked on at a time.
            untried = any(job.doubtful for job in self.jobs.values())
            self.store.claim(
                self,
                lambda claimed: self._on_claimed(claimed, asked_s),
                partition,
                self.owner,
                lease_ms=self._lease_ms,
                untried=untried,
            )

    @property
    def _lease_ms(self) -> int:
        return int(self.world.options.lease_s * 1000)

    def _on_claimed(self, claimed: Claimed | None, asked_s: float) -> None:
        if claimed is None or self.draining:
            return
        view = claimed.view
        if view.tries > MAX_TRIES:
            self._refuse(view)
            return
        self.store.guard(self, view.request_id, self._on_position_news)

        def on_log(log: list[Chunk] | None) -> None:
            # A log that is shorter than the claim says was forgotten since; to go on from it
            # would put other chunks into the same log.
            if log is not None and self._is_whole(view, log):
                self._take(claimed, log, asked_s)
            else:
                self._release(view)

        self.store.call(self, on_log, "log", view.request_id)
        self.look()

    @staticmethod
    def _is_whole(view: View, log: list[Chunk]) -> bool:
        return len(log) == view.next_seq - 1

    def _release(self, view: View) -> None:
        self.store.call(self, lambda _: None, "release", view.request_id, self.owner, view.epoch)

    def _refuse(self, view: View) -> None:
        self.world.injected["poisonous (seen)"] += 1
        self.store.call(
            self,
            lambda _: None,
            "finish",
            view.request_id,
            self.owner,
            view.epoch,
            view.next_seq,
            log_id=view.log_id,
            status=Status.FAILED,
            finish_reason="error",
            retention_ms=RETENTION_MS,
        )

    def _take(self, claimed: Claimed, history: list[Chunk], asked_s: float) -> None:
        view, options = claimed.view, self.world.options
        request_id = view.request_id
        self._drop(request_id)
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
        decoding = Decoding(
            view.epoch, history, options.answer_tokens, fails=claimed.body == "fails"
        )
        job = Job(
            view,
            producer,
            decoding,
            send=Timer(self, lambda: self._pump(job)),
            decode=Timer(self, lambda: self._decode(job)),
            largest_window=max(view.window, 1),
            body=claimed.body,
            renewed_s=asked_s,
            run_id=claimed.run_id,
            doubtful=view.tries > 1,
            dies_at=options.answer_tokens // 2 if claimed.body == "poison" else None,
        )
        self.jobs[request_id] = job
        self._pump(job)
        job.decode.arm(self.world.now)

    def _drop(self, request_id: str) -> None:
        job = self.jobs.pop(request_id, None)
        if job is not None:
            job.send.arm(None)
            job.decode.arm(None)

    def _holds(self, job: Job) -> bool:
        return self.jobs.get(job.view.request_id) is job

    # decoding

    def _decode(self, job: Job) -> None:
        if not self._holds(job) or self.draining or job.producer.ended:
            return
        producer, decoding = job.producer, job.decoding
        parked = producer.window.is_closed(producer.generated_tokens)  # not given to the engine
        if job.dies_at is not None and decoding.generated >= job.dies_at and not parked:
            self.store.safety.on_poisoned(job.view.request_id, self.store.state)
            self.die()
            return
        if decoding.finish_reason is not None:
            producer.on_finish(decoding.finish_reason)
            self._pump(job)
            return
        text, token_ids = decoding.step(self.world.options.tokens_per_step, producer.limit)
        if token_ids:
            producer.on_piece(text, token_ids, self.world.now)
            job.largest_window = max(job.largest_window, producer.window.size)
            self.store.safety.on_decoded(
                job.view.request_id, producer.generated_tokens, producer.limit, job.largest_window
            )
            job.decode.arm(self.world.now + self.world.options.step_s)
            self._pump(job)

    def _resume(self, job: Job) -> None:
        """The credit may have grown: decode, unless a step is due anyway."""
        job.largest_window = max(job.largest_window, job.producer.window.size)
        if job.decode.idle and (not job.parked or job.decoding.finish_reason is not None):
            job.decode.arm(self.world.now + self.world.options.step_s)

    # appending

    def _pump(self, job: Job) -> None:
        if not self._holds(job):
            return
        now = self.world.now
        if job.giving_back:
            return
        if now < job.retry_at:
            job.send.arm(job.retry_at)
            return
        append = job.producer.outbox(now)
        if append is None:
            job.send.arm(job.producer.deadline())
        elif append.chunks or append.finish_reason is None:
            self._append(job, append)
        else:
            self._finish(job, append)

    def _append(self, job: Job, append: Append) -> None:
        asked_s = self.world.now

        def answer(position: Position | None) -> None:
            if not self._holds(job):
                return
            # Fenced may mean that our own end is in and its answer was lost: finish tells.
            told = position is not None and position.outcome in (Outcome.OK, Outcome.FENCED)
            if told and append.finish_reason is not None:
                self._finish(job, append)
            else:
                self._on_answer(job, position, asked_s)

        self.store.call(
            self,
            answer,
            "append",
            job.view.request_id,
            self.owner,
            job.view.epoch,
            append.chunks,
            log_id=job.view.log_id,
            window=append.window,
            reopen_tokens=append.reopen_tokens,
            lease_ms=self._lease_ms,
        )

    def _finish(self, job: Job, append: Append) -> None:
        self.store.call(
            self,
            lambda position: self._on_answer(job, position, job.renewed_s),
            "finish",
            job.view.request_id,
            self.owner,
            job.view.epoch,
            append.next_seq,
            log_id=job.view.log_id,
            status=Status.FAILED if append.finish_reason == "error" else Status.DONE,
            finish_reason=append.finish_reason,
            retention_ms=RETENTION_MS,
        )

    def _on_answer(self, job: Job, position: Position | None, asked_s: float) -> None:
        if not self._holds(job):
            return
        if self._is_forgotten(job, position):
            job.producer.on_lost()
            self._give_back(job)
        elif position is None:
            job.producer.on_lost()
            job.retry_at = self.world.now + RETRY_S
            self._pump(job)
        elif position.outcome in (Outcome.OK, Outcome.GAP):
            job.producer.on_appended(position.next_seq, position.acked_tokens, self.world.now)
            if position.outcome is Outcome.OK:
                self._renewed(job, asked_s)
                job.doubtful = False
            self._resume(job)
            self._pump(job)
        else:
            if position.outcome is Outcome.CONFLICT:
                self.world.injected["conflict (seen)"] += 1
            self._drop(job.view.request_id)

    # what the store has forgotten (P3)

    def _is_forgotten(self, job: Job, position: Position | None) -> bool:
        unknown = position is not None and position.outcome is Outcome.UNKNOWN
        return unknown and self.store.state.run_id != job.run_id

    def _give_back(self, job: Job) -> None:
        if job.giving_back:
            return
        asked_s, run_id = self.world.now, self.store.state.run_id
        view, chunks = self._known(job, run_id)

        def answer(position: Position | None) -> None:
            job.giving_back = False
            if not self._holds(job):
                return
            if position is None:
                job.retry_at = self.world.now + RETRY_S
                self._pump(job)
            elif position.outcome is Outcome.OK:
                job.view, job.run_id = view, run_id
                self._go_on(job, position, asked_s)
            else:
                self._drop(job.view.request_id)

        job.giving_back = True
        args = (view, job.body, chunks)
        lease_ms = self._lease_ms
        self.store.call(self, answer, "reinstate", view.request_id, *args, lease_ms=lease_ms)

    def _known(self, job: Job, run_id: str) -> tuple[View, Sequence[Chunk]]:
        """As ``Owned.known``."""
        alone = self._is_alone(job)
        chunks = job.producer.made if alone else job.producer.stored
        acked_tokens = job.producer.window.acked_tokens
        acked_seq = next((c.seq for c in chunks if 0 < acked_tokens == c.tokens), 0)
        view = replace(
            job.view,
            window=job.producer.window.size,
            acked_seq=acked_seq,
            acked_tokens=acked_tokens if acked_seq else 0,
        )
        if alone:
            return view, chunks
        name = f"{view.log_id} {view.epoch} {run_id}".encode()
        forked = replace(
            view,
            log_id=hashlib.blake2b(name, digest_size=8).hexdigest(),
            forks=fork(view.forks, view.log_id, len(chunks) + 1),
        )
        return forked, chunks

    def _renewed(self, job: Job, asked_s: float) -> None:
        job.renewed_s, job.run_id = asked_s, self.store.state.run_id

    def _is_alone(self, job: Job) -> bool:
        """Whether the lease still runs, so that nobody else can have added to the log."""
        return self.world.now < job.renewed_s + self.world.options.lease_s

    # the lease, and what the store tells between appends

    def _heartbeat(self) -> None:
        for job in list(self.jobs.values()):
            if not job.producer.ended:
                self._renew(job)
        self.world.after(self.world.options.lease_s / 3, self, self._heartbeat)

    def on_store_reset(self) -> None:
        """Report every position, also of what is finished: the store may have forgotten it."""
        for job in list(self.jobs.values()):
            self.store.guard(self, job.view.request_id, self._on_position_news)
            self._renew(job)
        self.look()

    def _on_position_news(self, request_id: str, news: News) -> None:
        job = self.jobs.get(request_id)
        if job is None or news.epoch != job.view.epoch:
            return
        if news.position.outcome is Outcome.FENCED:
            self._renew(job)
        else:
            job.producer.on_acked(news.position.acked_tokens, self.world.now)
            self._resume(job)
            self._pump(job)

    def _renew(self, job: Job) -> None:
        asked_s = self.world.now

        def answer(position: Position | None) -> None:
            if position is None or not self._holds(job):
                return
            if self._is_forgotten(job, position):
                if not job.producer.is_sending:  # else the append's own answer tells
                    self._give_back(job)
            elif position.outcome is Outcome.OK:
                self._go_on(job, position, asked_s)
            elif position.status not in ENDED or job.decoding.finish_reason is None:
                # Of what ended, our own end may be in and its answer lost; finish tells.
                self._drop(job.view.request_id)

        self.store.call(
            self,
            answer,
            "renew",
            job.view.request_id,
            self.owner,
            job.view.epoch,
            job.view.log_id,
            lease_ms=self._lease_ms,
        )

    def _go_on(self, job: Job, position: Position, asked_s: float) -> None:
        self._renewed(job, asked_s)
        paused = position.status is Status.PAUSED
        acked_tokens = position.acked_tokens
        job.producer.on_position(position.next_seq, acked_tokens, self.world.now, paused=paused)
        self._resume(job)
        self._pump(job)

    # going away

    def drain(self) -> None:
        """Claim no more, hand everything back, and start anew a while later (P15)."""
        self.draining = True
        self.world.say(f"{self.name} drains")
        for job in list(self.jobs.values()):
            if not job.producer.ended:
                self._release(job.view)
                self._drop(job.view.request_id)
