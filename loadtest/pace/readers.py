"""Real readers over SSE who acknowledge as they read, and note when each token came."""

import asyncio
import json
import re
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from loadtest.harness import taps
from loadtest.harness.ackers import BATCHING, Posts
from loadtest.harness.taps import Tap
from loadtest.pace.measures import READING, Answer

CHUNK = re.compile(rb"(?:^|\n)id: (\d+)[^\n]*\n(?:event: message\n)?data: (\{[^\n]*\})\n")
REQUEST = re.compile(rb"\r\nx-request-id: ([^\r]+)\r\n")
END = b"event: end\n"
KEPT_BYTES = 65_536
"""More than an event: what may be incomplete when bytes arrive."""


@dataclass(frozen=True, slots=True)
class Question:
    """What one reader asks, and when, in seconds after the run's start."""

    at_s: float
    prompt: str
    max_tokens: int


class Acks:
    """Posts acks on a connection that is opened with the first, and again when an edge has closed
    it for being idle.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._posts: Posts | None = None
        self._opening: asyncio.Task[None] | None = None
        self._due = b""

    def send(self, request: bytes) -> None:
        if self._posts is not None and not self._posts.transport.is_closing():
            self._posts.transport.write(request)
            return
        self._due = request  # acks are cumulative: the last one is enough
        if self._opening is None:
            self._opening = asyncio.create_task(self._open())

    async def close(self) -> None:
        """Returns once the last ack is on its way."""
        if self._opening is not None:
            await self._opening
        if self._posts is not None:
            self._posts.transport.close()

    async def _open(self) -> None:
        posts: Posts = await taps.open_tap(self._port, Posts)
        posts.transport.write(self._due)
        self._posts, self._opening = posts, None


class ReadingTap(Tap):
    """Reads ``speed`` tokens a second, and acknowledges the chunks that it has read.

    Like our clients it sends no ack sooner than 0.4 s after the one before, and acknowledges all
    when the answer ends. ``send`` posts an ack; None for a reader who sends none.
    """

    def __init__(self, request: bytes, send: Callable[[bytes], None] | None, speed: float) -> None:
        super().__init__(request)
        self.arrivals_s: list[float] = []
        self.again = 0
        """Chunks that came a second time."""
        loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = loop.create_future()
        self._post = send
        self._interval_s = 1 / speed
        self._loop = loop
        self._path = ""
        self._buffer = b""
        self._unread: deque[tuple[int, int]] = deque()
        """(seq, tokens up to its end) of each chunk that is not read yet."""
        self._seq = self._read_seq = self._acked = self._read = 0
        self._next_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        self._buffer += data
        if not self._path and (found := REQUEST.search(self._buffer)):
            self._path = f"/v1/streams/{found[1].decode()}/ack"
        end = 0
        for match in CHUNK.finditer(self._buffer):
            self._take(int(match[1]), json.loads(match[2]), now)
            end = match.end()
        has_ended = END in self._buffer
        self._buffer = self._buffer[end:][-KEPT_BYTES:]
        if has_ended and not self.ended.done():
            self._send(self._seq)
            self.ended.set_result(None)
        elif (self._unread or self._acked < self._read_seq) and self._timer is None:
            self._timer = self._loop.call_later(BATCHING.ack_delay_s, self._on_timer)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if not self.ended.done():
            text = self._buffer[-300:].decode(errors="replace")
            self.ended.set_exception(ConnectionError(f"the stream broke: {text}"))

    def _take(self, seq: int, chunk: dict[str, Any], now: float) -> None:
        if seq <= self._seq:
            self.again += 1
            self._acked = min(self._acked, seq - 1)  # its ack was lost
            return
        if seq != self._seq + 1:
            raise RuntimeError(f"chunk {seq} after {self._seq}")
        self._seq = seq
        self.arrivals_s += [now] * (chunk["tokens"] - len(self.arrivals_s))
        self._unread.append((seq, len(self.arrivals_s)))

    def _on_timer(self) -> None:
        self._timer = None
        if self.ended.done():
            return
        self._read_on(time.perf_counter())
        while self._unread and self._unread[0][1] <= self._read:
            self._read_seq = self._unread.popleft()[0]
        self._send(self._read_seq)
        if self._unread:
            self._timer = self._loop.call_later(BATCHING.ack_delay_s, self._on_timer)

    def _read_on(self, now: float) -> None:
        """A token is read once it is there, and at the reader's speed after the one before."""
        while self._read < len(self.arrivals_s):
            read_s = max(self.arrivals_s[self._read], self._next_s)
            if read_s > now:
                break
            self._read, self._next_s = self._read + 1, read_s + self._interval_s

    def _send(self, seq: int) -> None:
        if self._post is not None and seq > self._acked:
            self._acked = seq
            self._post(taps.post(self._path, {"seq": seq}))


async def read_all(
    port: int,
    questions: Sequence[Question],
    parameters: dict[str, Any],
    *,
    speed: float = READING,
    limit_s: float,
) -> list[ReadingTap]:
    """Ask each question in its time and read all answers to their ends.

    Raises TimeoutError after ``limit_s``, and ConnectionError when a stream breaks.
    """
    began_s = time.perf_counter()
    acknowledges = parameters.get("ack") != "none"

    async def ask(number: int, question: Question) -> ReadingTap:
        await asyncio.sleep(began_s + question.at_s - time.perf_counter())
        body = {
            "messages": [{"role": "user", "content": question.prompt}],
            "seed": number,
            "max_tokens": question.max_tokens,
        }
        request = taps.post("/v1/streams", body | parameters, "Accept: text/event-stream")
        acks = Acks(port)
        send = acks.send if acknowledges else None
        tap = await taps.open_tap(port, lambda: ReadingTap(request, send, speed))
        try:
            await tap.ended
        finally:
            tap.transport.abort()
            await acks.close()
        return tap

    async with asyncio.timeout(limit_s):
        return await asyncio.gather(*(ask(n, question) for n, question in enumerate(questions)))


def answers(readers: Sequence[ReadingTap]) -> list[Answer]:
    """On the clock of ``time.perf_counter``."""
    return [Answer(reader.sent_s, reader.arrivals_s) for reader in readers]
