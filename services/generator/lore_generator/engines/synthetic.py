"""An engine without a model: known text at a set rate, for load and fault tests."""

import heapq
import itertools
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from lore.protocol.lifecycle import CONTEXT_EXCEEDED, INVALID_PROMPT
from lore.request import context_exceeded
from lore_generator.engine import EngineInfo, EngineStats, Job, Piece, Sink
from lore_generator.engines.options import SyntheticOptions
from lore_generator.engines.synthetic_text import VOCABULARY, SyntheticAnswer, answer, ids_of


@dataclass(slots=True, eq=False)
class _Stream:
    request_id: str
    script: SyntheticAnswer
    prompt_ids: tuple[int, ...]
    position: int
    limit: int | None
    due_s: float
    prefix: str = ""
    """Text that the log lacks although its tokens are there; the next piece begins with it."""
    queued: bool = False
    live: bool = True

    def has_credit(self) -> bool:
        return self.limit is None or self.position < self.limit

    def may_move(self) -> bool:
        return self.has_credit() or self.position == len(self.script.token_ids)

    def step(self) -> Piece:
        """The next token; or only the end, when the log already has every token."""
        at = self.position
        end = len(self.script.token_ids)
        self.position = min(at + 1, end)
        text, self.prefix = (
            self.prefix + "".join(self.script.texts[at : self.position]),
            "",
        )
        return Piece(
            self.request_id,
            self.script.token_ids[at : self.position],
            text,
            self.script.finish_reason if self.position == end else None,
            prompt_tokens=len(self.prompt_ids),
            prompt_ids=self.prompt_ids,
        )


class SyntheticEngine:
    """Plays each request's answer (see ``synthetic_text``) at the set rate, within its credit."""

    def __init__(self, options: SyntheticOptions | None = None) -> None:
        self._options = options or SyntheticOptions()
        self._interval_s = 1 / self._options.rate_tokens_per_s
        self._changed = threading.Condition()
        self._streams: dict[str, _Stream] = {}
        self._queue: list[tuple[float, int, _Stream]] = []
        self._order = itertools.count()
        self._refused: list[Piece] = []
        self._stopping = False
        self._steps = 0
        self._thread: threading.Thread | None = None

    def start(self, sink: Sink) -> EngineInfo:
        self._thread = threading.Thread(
            target=self._run, args=(sink,), name="synthetic-engine", daemon=True
        )
        self._thread.start()
        options = self._options
        return EngineInfo("synthetic", options.slots, options.context_tokens)

    def submit(self, job: Job, limit: int | None) -> None:
        stream = self._open(job, limit)
        with self._changed:
            if isinstance(stream, Piece):
                self._refused.append(stream)
            else:
                self._streams[job.request_id] = stream
                self._enqueue(stream)
            self._changed.notify()

    def grant(self, request_id: str, limit: int | None) -> None:
        with self._changed:
            stream = self._streams.get(request_id)
            if stream is None or stream.limit is None:
                return
            stream.limit = None if limit is None else max(stream.limit, limit)
            self._enqueue(stream)
            self._changed.notify()

    def hold(self, request_id: str) -> None:
        with self._changed:
            if stream := self._streams.get(request_id):
                stream.limit = 0

    def park(self, request_id: str, ahead_tokens: int) -> None: ...

    def cancel(self, request_id: str) -> None:
        with self._changed:
            if stream := self._streams.pop(request_id, None):
                stream.live = False

    def stats(self) -> EngineStats:
        with self._changed:
            live = len(self._streams)
            running = sum(stream.queued for stream in self._streams.values())
        kv_used_ratio = min(1.0, live / self._options.slots)
        return EngineStats(running, live - running, 0, kv_used_ratio, self._steps)

    def alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def trouble(self) -> str:
        return ""

    def stop(self) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _open(self, job: Job, limit: int | None) -> _Stream | Piece:
        prompt_ids = ids_of(job.request)
        prompt_tokens = len(prompt_ids)
        room = self._options.context_tokens - prompt_tokens
        if room < 1:
            return _refusal(
                job,
                context_exceeded(prompt_tokens, self._options.context_tokens),
                CONTEXT_EXCEEDED,
            )
        if (most := max(prompt_ids, default=0)) >= len(VOCABULARY):
            return _refusal(
                job, f"prompt: the synthetic engine has no token {most}", INVALID_PROMPT
            )
        if (constraint := job.request.constraint) is not None:
            why = f"{constraint}: the synthetic engine keeps to no format"
            return _refusal(job, why, INVALID_PROMPT)
        if job.request.logprobs is not None:
            why = "logprobs: the synthetic engine has none"
            return _refusal(job, why, INVALID_PROMPT)
        length = min(job.request.max_tokens, room)
        script = answer(
            job.request.model_copy(update={"max_tokens": length}),
            self._options.length_tokens,
        )
        done = len(job.generated_ids)
        said = "".join(script.texts[:done])
        if script.token_ids[:done] != job.generated_ids or not said.startswith(job.generated_text):
            return _refusal(job, "the log holds text that this engine did not make")
        prefix = said[len(job.generated_text) :]
        now = time.monotonic()
        return _Stream(job.request_id, script, prompt_ids, done, limit, now, prefix)

    def _enqueue(self, stream: _Stream) -> None:
        if not stream.queued and stream.may_move():
            stream.queued = True
            heapq.heappush(self._queue, (stream.due_s, next(self._order), stream))

    def _run(self, sink: Sink) -> None:
        step_s = min(self._options.step_s, self._interval_s)
        while True:
            pieces = self._wait_for_pieces()
            if pieces is None:
                return
            began_s = time.monotonic()
            self._steps += 1
            sink(pieces)
            # The pause collects streams that become due meanwhile into one call.
            time.sleep(max(0.0, began_s + step_s - time.monotonic()))

    def _wait_for_pieces(self) -> Sequence[Piece] | None:
        with self._changed:
            while not self._stopping:
                pieces, self._refused = self._refused, []
                self._take_due(time.monotonic(), pieces)
                if pieces:
                    return pieces
                wait_s = self._queue[0][0] - time.monotonic() if self._queue else None
                self._changed.wait(wait_s)
        return None

    def _take_due(self, now: float, pieces: list[Piece]) -> None:
        moved: list[_Stream] = []
        while self._queue and self._queue[0][0] <= now:
            stream = heapq.heappop(self._queue)[2]
            stream.queued = False
            if not (stream.live and stream.may_move()):
                continue
            pieces.append(stream.step())
            # A stream that was parked or late keeps its rate; it does not catch up in a burst.
            stream.due_s = max(stream.due_s + self._interval_s, now)
            if pieces[-1].finish_reason is None:
                moved.append(stream)
            else:
                del self._streams[stream.request_id]
        for stream in moved:
            self._enqueue(stream)


def _refusal(job: Job, message: str, reason: str = "error") -> Piece:
    return Piece(job.request_id, finish_reason=reason, error=message)
