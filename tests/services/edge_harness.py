"""Edges in this process, on real sockets, and the two that they stand between: a generator
that writes what the test says, and readers that read what they are told to."""

import asyncio
import contextlib
import json
import random
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, cast

import httpx

from lore.protocol.chunk import Chunk
from lore.protocol.commands import Append, Claim, Finish
from lore.protocol.lifecycle import Status
from lore.protocol.rtt import RttConfig
from lore.protocol.sender import SenderConfig
from lore.store import MemoryStore, Store, StoreUnavailable
from lore.store.base import ChunkMessage, Claimed, Message, Outcome, View
from lore.store.keys import partition_of
from lore.store.memory.records import Publication, Snapshot
from lore_edge.app import Edge
from lore_edge.server import EdgeServer, bind
from lore_edge.settings import EdgeSettings

WAIT_S = 10.0
LEASE_MS = 60_000
PATIENT = SenderConfig(rtt=RttConfig(initial_rto_s=60, min_rto_s=60))
"""Readers here acknowledge when a test says so: without this a slow machine retransmits."""


def settings(**changes: Any) -> EdgeSettings:
    quick: dict[str, Any] = {
        "auth": "off",
        "edge_id": "edge-1",
        "linger_s": 0.05,
        "drain_spread_s": 0.0,
    }
    return EdgeSettings(**(quick | changes))


class Serving(Protocol):
    """An edge that can be reached, in this process or in one of its own."""

    port: int
    responses: list["Response"]


@dataclass
class RunningEdge:
    edge: Edge
    server: EdgeServer
    port: int
    serving: asyncio.Task[None]
    responses: list["Response"] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, timeout=WAIT_S, trust_env=False)

    async def stop(self) -> None:
        for response in self.responses:
            response.close()
        self.server.should_exit = True
        await asyncio.wait_for(self.serving, WAIT_S)
        await self.edge.close()


@contextlib.asynccontextmanager
async def running_edge(
    store: Store, sender: SenderConfig = PATIENT, **changes: Any
) -> AsyncIterator[RunningEdge]:
    chosen = settings(**changes)
    edge = Edge(chosen, store, sender)
    server = EdgeServer(edge, chosen)
    # Ctrl-C is for the test run.
    server.capture_signals = contextlib.nullcontext  # pyright: ignore[reportAttributeAccessIssue]
    listener = bind("127.0.0.1", 0)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    port = listener.getsockname()[1]
    await until(lambda: server.started)
    running = RunningEdge(edge, server, port, serving)
    try:
        yield running
    finally:
        await running.stop()


def direct_client(store: Store, **changes: Any) -> httpx.AsyncClient:
    """Calls an edge without a socket: for everything but streams."""
    transport = httpx.ASGITransport(cast("Any", Edge(settings(**changes), store)))
    return httpx.AsyncClient(transport=transport, base_url="http://edge.example")


async def until(condition: Any, timeout_s: float = WAIT_S) -> None:
    """Wait for what no event announces; a condition that stays false is a failure."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


class FaultyStore(MemoryStore):
    """A store that can be away, be silent, lose news, and come back with less than it had."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.silent = False
        """It takes calls and answers none."""
        self.loses: Callable[[Message], bool] = lambda message: False
        self.holes: set[int] = set()
        """Chunks that are counted and not in the log, as after a start from a file that was cut."""
        self.reads = 0
        self.replays = 0
        """Those of them that a replica may serve."""
        self.views = 0

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if asyncio.iscoroutinefunction(found):
            known = object.__getattribute__(self, "__dict__")
            if known.get("away") or known.get("silent"):
                return _away if known["away"] else _silent
        return found

    def following(self, request_id: str) -> int:
        """How many edges follow the request."""
        return len(self._listeners.get(request_id, ()))

    def forget_since(self, snapshot: Snapshot, run_id: str) -> None:
        """Come back as another server with an older state; nobody has told the edges yet."""
        self.state.restore(snapshot, run_id)

    def reset_subscriptions(self) -> None:
        for listeners in list(self._listeners.values()):
            for listener in listeners:
                listener.on_reset()

    async def read(
        self, request_id: str, *, after: int, limit: int = 1000, known: View | None = None
    ) -> list[ChunkMessage]:
        self.reads += 1
        self.replays += known is not None
        chunks = await super().read(request_id, after=after, limit=limit, known=known)
        return [chunk for chunk in chunks if chunk.seq not in self.holes]

    async def view(self, request_id: str) -> View | None:
        self.views += 1
        return await super().view(request_id)

    def _dispatch(self, publication: Publication) -> None:
        message = publication.message
        if publication.channel == "n" and self.loses(cast("Message", message)):
            return
        super()._dispatch(publication)


async def _away(*_: object, **__: object) -> None:
    raise StoreUnavailable("the store is away")


async def _silent(*_: object, **__: object) -> None:
    await asyncio.Event().wait()


class Writer:
    """Plays the generator of one request."""

    def __init__(self, store: Store, request_id: str, owner: str = "generator-1") -> None:
        self._store = store
        self.request_id = request_id
        self._owner = owner
        self.claimed: Claimed | None = None
        self.chunks: list[Chunk] = []

    @property
    def view(self) -> View:
        assert self.claimed is not None
        return self.claimed.view

    @property
    def text(self) -> str:
        return "".join(chunk.text for chunk in self.chunks)

    async def claim(self, *, lease_ms: int = LEASE_MS) -> View:
        partition = partition_of(self.request_id)
        self.claimed = await self._store.do(Claim(partition, self._owner, lease_ms=lease_ms))
        assert self.view.request_id == self.request_id, "another one stood before it in its queue"
        self.chunks = await self._store.log(self.request_id)
        return self.view

    async def write(self, *texts: str, reopen_tokens: int = 0) -> None:
        """Append one chunk of one token for each text."""
        new: list[Chunk] = []
        for text in texts:
            seq = len(self.chunks) + 1
            new.append(Chunk(seq, text, (seq,), seq))
            self.chunks.append(new[-1])
        await self.append(new, reopen_tokens=reopen_tokens)

    async def append(self, chunks: Sequence[Chunk], *, reopen_tokens: int = 0) -> None:
        position = await self._store.do(
            Append(
                self.request_id,
                self._owner,
                epoch=self.view.epoch,
                chunks=chunks,
                log_id=self.view.log_id,
                window=32,
                reopen_tokens=reopen_tokens,
                lease_ms=LEASE_MS,
            )
        )
        assert position.outcome is Outcome.OK, position
        await asyncio.sleep(0)  # the news of it goes out

    async def finish(self, status: Status = Status.DONE, error: str = "") -> None:
        command = Finish(
            self.request_id,
            self._owner,
            self.view.epoch,
            len(self.chunks) + 1,
            log_id=self.view.log_id,
            status=status,
            finish_reason="stop" if status is Status.DONE else "error",
            error=error,
            prompt_tokens=7,
            retention_ms=60_000,
        )
        position = await self._store.do(command)
        assert position.outcome is Outcome.OK, position


async def fork(store: FaultyStore, writer: Writer, keep: int, *texts: str) -> Writer:
    """The store loses all but ``keep`` chunks of the log, and another generator goes on."""
    store.forget_since(store.state.snapshot(), f"run-{random.random()}")
    record = store.state._records[writer.request_id]
    record.log = record.log[:keep]
    record.view = _replace_position(record.view, keep)
    other = Writer(store, writer.request_id, "generator-2")
    await other.claim()
    await other.write(*texts)
    return other


def _replace_position(view: View, keep: int) -> View:
    return replace(view, next_seq=keep + 1, generated_tokens=keep, acked_seq=0, lease_until_ms=0)


@dataclass
class Event:
    name: str
    id: str
    data: Any


@dataclass
class Response:
    """An answer as it comes off the socket."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict[str, str])
    comments: int = 0
    retry_ms: int | None = None
    raw: bytes = b""
    _text: str = ""

    async def event(self) -> Event | None:
        """The next event; None when the response ended as HTTP says it should."""
        async with asyncio.timeout(WAIT_S):
            while True:
                block, found, rest = self._text.partition("\n\n")
                if found:
                    self._text = rest
                    if (event := self._parse(block)) is not None:
                        return event
                elif not (data := await self._http_chunk()):
                    rest = [line for line in self._text.split("\n") if line[:1] != ":"]
                    assert rest in ([], [""]), "the response ended within an event"
                    return None
                else:
                    self.raw += data
                    self._text += data.decode()

    async def events(self, *names: str) -> list[Event]:
        """All events up to the end of the response, or those of these names alone."""
        found: list[Event] = []
        async with asyncio.timeout(3 * WAIT_S):
            while (event := await self.event()) is not None:
                if not names or event.name in names:
                    found.append(event)
        return found

    async def chunks(self, count: int) -> list[Event]:
        """The next ``count`` chunks, passing over other events."""
        found: list[Event] = []
        while len(found) < count:
            event = await self.event()
            assert event is not None, f"the response ended after {len(found)} of {count} chunks"
            if event.name == "message":
                found.append(event)
        return found

    async def until_event(self, name: str, **data: Any) -> Event:
        """The next event of this name whose data holds these values."""
        while True:
            event = await self.event()
            assert event is not None, f"the response ended before {name} {data}"
            if event.name == name and data.items() <= event.data.items():
                return event

    async def next_comment(self) -> None:
        seen = self.comments
        async with asyncio.timeout(WAIT_S):
            while self.comments == seen:
                data = await self._http_chunk()
                assert data, "the response ended"
                for block in data.decode().split("\n\n"):
                    self._parse(block)

    async def body(self) -> bytes:
        async with asyncio.timeout(WAIT_S):
            if "content-length" in self.headers:
                return await self.reader.readexactly(int(self.headers["content-length"]))
            return await self.reader.read()

    async def json(self) -> Any:
        return json.loads(await self.body())

    def close(self) -> None:
        """Vanish: what was not read is thrown away, and the peer gets a reset."""
        cast("asyncio.Transport", self.writer.transport).abort()

    async def _http_chunk(self) -> bytes:
        size = int((await self.reader.readline()).strip() or b"0", 16)
        data = await self.reader.readexactly(size + 2)
        return data[:-2]

    def _parse(self, block: str) -> Event | None:
        name, event_id, data = "message", "", None
        for line in block.split("\n"):
            kind, _, value = line.partition(": ")
            if line.startswith(":"):
                self.comments += 1
            elif kind == "retry":
                self.retry_ms = int(value)
            elif kind == "event":
                name = value
            elif kind == "id":
                event_id = value
            elif kind == "data":
                data = json.loads(value)
        return Event(name, event_id, data) if data is not None else None


async def request(
    edge: Serving,
    method: str,
    path: str,
    headers: dict[str, str] | None = None,
    body: bytes = b"",
    *,
    receive_buffer: int | None = None,
) -> Response:
    """Send a request and read its answer's head. No more of the answer is read than asked for
    when ``receive_buffer`` bounds what this side's kernel takes."""
    sock = socket.socket()
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", edge.port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=receive_buffer or 65_536)
    lines = [f"{method} {path} HTTP/1.1", "host: 127.0.0.1"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if body:
        lines.append(f"content-length: {len(body)}")
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode() + body)
    response = Response(reader, writer)
    edge.responses.append(response)
    async with asyncio.timeout(WAIT_S):
        response.status = int((await reader.readline()).split()[1])
        while line := (await reader.readline()).decode("latin-1").strip():
            name, _, value = line.partition(": ")
            response.headers[name.lower()] = value
    return response


async def stream(
    edge: RunningEdge,
    request_id: str,
    *,
    after: str | int | None = None,
    last_event_id: str | None = None,
    log: str | None = None,
    receive_buffer: int | None = None,
) -> Response:
    """Open a stream as an EventSource does."""
    query = [f"after={after}"] if after is not None else []
    query += [f"log={log}"] if log is not None else []
    headers = {"accept": "text/event-stream"}
    if last_event_id is not None:
        headers["last-event-id"] = last_event_id
    path = f"/v1/streams/{request_id}?{'&'.join(query)}"
    return await request(edge, "GET", path, headers, receive_buffer=receive_buffer)


async def ask(edge: RunningEdge, **body: Any) -> str:
    """Create a request; returns its id."""
    async with edge.client() as client:
        answer = await client.post("/v1/streams", json={"question": "What is a list?"} | body)
    assert answer.status_code == 201, answer.text
    return answer.json()["request_id"]


async def acknowledge(edge: RunningEdge, request_id: str, seq: int) -> httpx.Response:
    async with edge.client() as client:
        return await client.post(f"/v1/streams/{request_id}/ack", json={"seq": seq})


def text_of(events: Sequence[Event]) -> str:
    return "".join(event.data["text"] for event in events if event.name == "message")
