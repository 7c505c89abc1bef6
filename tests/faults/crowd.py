"""A crowd of readers, light enough for thousands in one process.

Each is a bare asyncio connection with two parsers. It compares what it is given with the
answer as it comes, and goes to the next edge when it is left, after a full-jitter pause,
as the browser's module does. It acknowledges nothing unless told to.
"""

import asyncio
import json
import random
import socket
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import httptools
import httpx

from lore.request import StreamRequest
from lore_client.sse import ServerEvent, SseParser
from lore_generator.engines.synthetic_text import synthetic_answer

BACKOFF_S, MAX_BACKOFF_S = 0.25, 10.0
CONNECT_S = 15.0
AT_ONCE = 100
SMALL_BUFFER_BYTES, SMALL_SEGMENT_BYTES = 4096, 1400
"""On the loopback the kernel takes megabytes for a reader that does not read. A path with
ordinary segments and a small buffer at its end takes little."""


@dataclass(eq=False)
class Question:
    body: dict[str, Any]
    answer: str
    request_id: str = ""

    @classmethod
    def number(cls, number: int, length_tokens: int | None, **parameters: Any) -> "Question":
        """``length_tokens`` as the synthetic engine's setting."""
        messages = [{"role": "user", "content": f"What is {number}?"}]
        body = {"messages": messages, "seed": number} | parameters
        text = synthetic_answer(StreamRequest.model_validate(body), length_tokens)
        return cls(body, "".join(text))


@dataclass
class Crowd:
    ports: Sequence[int]
    """Of the edges, in the order in which a reader tries them."""
    readers: list["CrowdReader"] = field(default_factory=list["CrowdReader"])
    statuses: Counter[int] = field(default_factory=Counter[int])
    violations: list[str] = field(default_factory=list[str])

    async def join(self, questions: Iterable[Question], *, slow: bool = False) -> None:
        """A reader for each question (one may come several times), by turns on each edge."""
        came = [
            CrowdReader(self, question, number % len(self.ports), slow=slow)
            for number, question in enumerate(questions)
        ]
        self.readers += came
        for begin in range(0, len(came), AT_ONCE):
            some = came[begin : begin + AT_ONCE]
            for reader in some:
                reader.open()
            await until(some, lambda reader: reader.opened_at > 0)

    def leave(self) -> None:
        for reader in self.readers:
            reader.close()

    def on(self, edge: int) -> list["CrowdReader"]:
        return [reader for reader in self.readers if reader.edge == edge]


async def until(
    readers: Iterable["CrowdReader"], condition: Callable[["CrowdReader"], bool]
) -> None:
    """Wait until the condition has been true of each. The caller bounds the time."""
    for reader in readers:
        while not condition(reader):
            await reader.moved.wait()


class CrowdReader:
    def __init__(self, crowd: Crowd, question: Question, edge: int, *, slow: bool) -> None:
        self.question = question
        self.edge = edge
        self.seq = 0
        self.length = 0
        """Characters of the answer that it has."""
        self.status = ""
        self.opened_at = 0.0
        """When its last stream opened, on the loop's clock."""
        self.body_bytes = 0
        """Of events, all its visits together."""
        self.drains = 0
        """How often an edge has sent it away."""
        self.over = False
        self.moved = asyncio.Event()
        """Set, and replaced, whenever anything above changes."""
        self._crowd = crowd
        self._slow = slow
        self._loop = asyncio.get_running_loop()
        self._attempt = 0
        self._visit: Visit | None = None
        self._opening: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def open(self) -> None:
        self._opening = self._loop.create_task(self._connect())

    def read_on(self) -> None:
        """A slow reader reads nothing before this."""
        self._slow = False
        if self._visit is not None:
            self._visit.transport.resume_reading()

    def close(self) -> None:
        self.over = True
        for waiting in (self._opening, self._timer):
            if waiting is not None:
                waiting.cancel()
        if self._visit is not None:
            self._visit.transport.abort()

    async def acknowledge(self, http: httpx.AsyncClient) -> None:
        """Acknowledge all that it has, to the end of the answer."""
        path = f"/v1/streams/{self.question.request_id}/ack"
        while not self.over:
            moved = self.moved
            if self.seq:
                url = f"http://127.0.0.1:{self._crowd.ports[self.edge]}{path}"
                (await http.post(url, json={"seq": self.seq})).raise_for_status()
            await moved.wait()

    async def _connect(self) -> None:
        sock = socket.socket()
        sock.setblocking(False)
        if self._slow:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER_BYTES)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SMALL_SEGMENT_BYTES)
        try:
            async with asyncio.timeout(CONNECT_S):
                await self._loop.sock_connect(sock, ("127.0.0.1", self._crowd.ports[self.edge]))
                _, self._visit = await self._loop.create_connection(lambda: Visit(self), sock=sock)
        except OSError:  # TimeoutError is one
            sock.close()
            self._go_elsewhere()
            return
        path = f"/v1/streams/{self.question.request_id}?after={self.seq}"
        accept = "Accept: text/event-stream"
        self._visit.transport.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n{accept}\r\n\r\n".encode())

    # what a visit tells

    def on_answer(self, status: int, retry_after: bool) -> None:
        self._crowd.statuses[status] += 1
        if status == 204:
            self._finish()
        elif status != 200 and not (status == 503 and retry_after):
            self._complain(f"status {status}")
        elif status == 200 and self._slow and self._visit is not None:
            self._opened()
            self._visit.transport.pause_reading()

    def on_event(self, event: ServerEvent) -> None:
        data = json.loads(event.data)
        if event.event == "message":
            self._on_chunk(int(event.last_event_id), data["text"])
        elif event.event == "state":
            self.status = data["status"]
            if data["reason"] == "open":
                self._opened()
            elif data["reason"] == "drain":
                self.drains += 1
                assert self._visit is not None
                self._visit.transport.close()
        elif event.event == "end":
            self._finish()
        else:
            self._complain(event.data)
        self._tell()

    def on_left(self) -> None:
        self._visit = None
        if not self.over:
            self._go_elsewhere()

    def _opened(self) -> None:
        self.opened_at = self._loop.time()
        self._attempt = 0
        self._tell()

    def _on_chunk(self, seq: int, text: str) -> None:
        if seq <= self.seq:
            return  # sent again, for want of an ack
        answer = self.question.answer
        if seq != self.seq + 1:
            self._complain(f"chunk {seq} after {self.seq}")
        if not answer.startswith(text, self.length):
            self._complain(f"chunk {seq} is not what follows character {self.length}")
        self.seq = seq
        self.length += len(text)

    def _finish(self) -> None:
        self.over = True
        if self.length != len(self.question.answer):
            self._complain(f"ended after {self.length} characters")
        self._tell()

    def _complain(self, line: str) -> None:
        self._crowd.violations.append(f"request {self.question.request_id}: {line}")

    def _go_elsewhere(self) -> None:
        self.edge = (self.edge + 1) % len(self._crowd.ports)
        delay_s = random.random() * min(MAX_BACKOFF_S, BACKOFF_S * 2**self._attempt)
        self._attempt += 1
        self._timer = self._loop.call_later(delay_s, self.open)

    def _tell(self) -> None:
        moved, self.moved = self.moved, asyncio.Event()
        moved.set()


class Visit(asyncio.Protocol):
    """One connection of a reader."""

    transport: asyncio.Transport

    def __init__(self, reader: CrowdReader) -> None:
        self._reader = reader
        self._http = httptools.HttpResponseParser(self)
        self._sse = SseParser()
        self._retry_after = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is one by its methods

    def data_received(self, data: bytes) -> None:
        self._http.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._reader.on_left()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._retry_after |= name.lower() == b"retry-after"

    def on_headers_complete(self) -> None:
        self._reader.on_answer(self._http.get_status_code(), self._retry_after)

    def on_body(self, body: bytes) -> None:
        if self._http.get_status_code() == 200:
            self._reader.body_bytes += len(body)
            for event in self._sse.feed(body):
                self._reader.on_event(event)

    def on_message_complete(self) -> None:
        self.transport.close()
