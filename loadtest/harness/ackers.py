"""Readers that acknowledge: as our clients do it, or as fast as an edge answers."""

import asyncio
import json
import time
from typing import cast

from loadtest.harness import taps
from loadtest.harness.taps import EVENT, Tap
from lore_client.protocol.receiver import ReceiverConfig, is_worth_an_ack

BATCHING = ReceiverConfig()


class Posts(asyncio.Protocol):
    """A connection that is kept, for one POST after the other."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.answered = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"HTTP/1.1 204"):
            self.answered += 1
        elif data.startswith(b"HTTP"):
            raise RuntimeError(data[:300].decode(errors="replace"))


class AckingTap(Tap):
    """Acknowledges as our clients do; here a chunk is a token, and the window stays as it is."""

    def __init__(self, request: bytes, posts: Posts, path: str = "") -> None:
        """``path`` is where to acknowledge, unless the response tells."""
        super().__init__(request)
        self.posts = posts
        self._path = path
        self._seq = self._acked = 0
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        for match in EVENT.finditer(data):
            self._seq = int(match[1] or match[2])
        if is_worth_an_ack(self._seq - self._acked, BATCHING.window_tokens):
            self._ack()
        elif self._seq > self._acked and self._timer is None:
            self._timer = self._loop.call_later(BATCHING.ack_delay_s, self._ack)

    def _ack(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.posts.transport.is_closing():
            return
        if not self._path:
            self._path = f"/v1/streams/{self.header(b'x-request-id')}/ack"
        self._acked = self._seq
        self.posts.transport.write(taps.post(self._path, {"seq": self._seq}))


class Hammer(Posts):
    """Acknowledges one seq after the other, the next when the last is answered."""

    def __init__(self, path: str, last_seq: int) -> None:
        super().__init__()
        self._last = last_seq
        head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
        self._head = head.encode()
        self.latencies_s: list[float] = []
        self._sent_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._next()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.latencies_s.append(time.perf_counter() - self._sent_s)
        self._next()

    def _next(self) -> None:
        body = json.dumps({"seq": self.answered % self._last + 1}).encode()
        self._sent_s = time.perf_counter()
        self.transport.write(self._head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
