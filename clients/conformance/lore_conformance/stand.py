"""The edges of one case, and the checks that apply in every case."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

from lore_conformance import answer as says
from lore_conformance.answer import FIRST_LOG, QUESTION, REQUEST_ID, WINDOW, Answer
from lore_conformance.cases import Case
from lore_conformance.http import Call, Connection, Gone
from lore_conformance.script import STATES, is_status, scripts
from lore_conformance.telling import Telling

STREAM_TOKEN = "a-token"  # noqa: S105
FOR_GOOD = ("404", "410")
"""Final statuses: an edge repeats them."""
EARLY_S = 0.05
"""The tolerance for clocks and timers in seconds."""


@dataclass
class Seen:
    """What the client did."""

    calls: list[str] = field(default_factory=list[str])
    broken: list[str] = field(default_factory=list[str])
    """The broken rules, each with what happened."""
    acked: int = 0
    acks: int = 0
    streams: int = 0
    polls: int = 0
    sent: set[int] = field(default_factory=set[int])
    keys: list[str] = field(default_factory=list[str])
    failed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def whole(self) -> int:
        """The last seq that was sent without a gap before it."""
        seq = 0
        while seq + 1 in self.sent:
            seq += 1
        return seq

    def check(self, rule: str, what: str, *, holds: bool) -> None:
        if not holds:
            self.broken.append(f"{rule}: {what}")
            self.failed.set()


class Stand:
    def __init__(self, case: Case) -> None:
        self.case = case
        self.seen = Seen()
        status = case.state if case.state in ("failed", "cancelled") else "done"
        self._answer = Answer(case.last_seq, status) if status != "done" else Answer()
        self._scripts = iter(scripts(case.streams))
        self._creates, self._acks = iter(case.creates.split()), iter(case.acks.split())
        self._log, self._fork = FIRST_LOG, 0
        self._refused: list[str] | None = None
        self._not_before: dict[tuple[int, str], float] = {}
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        self.urls: list[str] = []

    async def __aenter__(self) -> Self:
        self._servers: list[asyncio.Server] = []
        for edge in range(self.case.edges):
            server = await asyncio.start_server(self._accepts(edge), "127.0.0.1", 0, limit=2**20)
            self._servers.append(server)
            port = server.sockets[0].getsockname()[1]
            self.urls.append(f"http://127.0.0.1:{port}{self.case.path}")
        return self

    async def __aexit__(self, *_: object) -> None:
        for server in self._servers:
            server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accepts(self, edge: int) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]:
        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(self._serve(edge, Connection(reader, writer)))
            self._tasks.add(task)

        return accept

    async def _serve(self, edge: int, connection: Connection) -> None:
        with suppress(Gone):
            while True:
                call = await connection.call(edge)
                self.seen.calls.append(f"edge {edge}: {call}")
                await self._answer_to(call, connection)
        connection.close()

    async def _answer_to(self, call: Call, connection: Connection) -> None:
        base = f"{self.case.path}/v1/streams"
        one = f"{base}/{REQUEST_ID}"
        if not await self._is_let_in(call, connection):
            return
        match call.method, call.path.removeprefix(base):
            case "POST", "":
                await self._create(call, connection)
            case _ if not call.path.startswith(one):
                await connection.refuse(404)
            case "GET", _ if "wait" in call.query:
                await self._poll(call, connection)
            case "GET", _ if call.wants_stream:
                await self._stream(call, connection)
            case "GET", _:
                await connection.answer(200, self._answer.view(self._log))
            case "DELETE", _:
                self.seen.check("P14", "the client cancelled a request", holds=False)
                await connection.answer(204)
            case _, path if path.endswith("/ack"):
                await self._ack(call, connection)
            case _, path if path.endswith("/revive"):
                await connection.answer(202, self._answer.view(self._log, "queued"))
            case _, path if path.endswith("/token"):
                await connection.answer(
                    201, {"token": STREAM_TOKEN, "expires_at": "2100-01-01T00:00:00Z"}
                )
            case _:
                await connection.refuse(404)

    async def _is_let_in(self, call: Call, connection: Connection) -> bool:
        wanted = {"authorization": f"Bearer {self.case.key}"}
        has_token = call.query.get("token") == STREAM_TOKEN
        if not self.case.key or has_token or wanted.items() <= call.headers.items():
            return True
        self.seen.check("Authentication", f"{call} came without the key", holds=False)
        await connection.refuse(401)
        return False

    # Calls

    async def _create(self, call: Call, connection: Connection) -> None:
        seen = self.seen
        self._check_patience(call, "create")
        seen.keys.append(call.headers.get("idempotency-key", ""))
        same = len(seen.keys) == 1 or (len(set(seen.keys)) == 1 and "" not in seen.keys)
        seen.check("HTTP", "a question came again under another Idempotency-Key", holds=same)
        asked = call.json().get("question")
        seen.check("HTTP", f"the question is {asked!r}", holds=asked == QUESTION)
        word = next(self._creates, "")
        if word == "cut":
            connection.close()
            raise Gone
        if word:
            await self._refuse(call, "create", connection, word)
            return
        url = f"{self.case.path}/v1/streams/{REQUEST_ID}?log={FIRST_LOG}"
        view = self._answer.view(FIRST_LOG, "queued")
        view |= {"stream_url": url, "text": "", "next_seq": 1}
        await connection.answer(201, view, {"Location": url})

    async def _ack(self, call: Call, connection: Connection) -> None:
        seq, whole = call.json().get("seq"), self.seen.whole
        if not isinstance(seq, int) or not 0 <= seq <= whole:
            self.seen.check("P9", f"{seq} was acked when {whole} was sent", holds=False)
            await connection.refuse(409)
            return
        word = next(self._acks, "")
        if word == "cut":
            connection.close()
            raise Gone
        if word:
            await connection.refuse(int(word))
            return
        async with self._changed:
            self.seen.acked, self.seen.acks = max(self.seen.acked, seq), self.seen.acks + 1
            self._changed.notify_all()
        await connection.answer(204)

    async def _poll(self, call: Call, connection: Connection) -> None:
        """Answer a poll at once with the whole answer."""
        async with self._changed:
            self.seen.polls += 1
            self._changed.notify_all()
        position, last = self._position(call), self._answer.last_seq
        if position is None or self.case.state == "lost":
            await connection.refuse(410)
            return
        self.seen.sent |= set(range(1, last + 1))
        data: dict[str, object] = {"request_id": REQUEST_ID, "log_id": self._log}
        data |= {"after": position, "seq": last, "text": self._answer.text(position)}
        data |= {"tokens": says.tokens(last), "state": self.state("open")}
        await connection.answer(200, data | {"end": self._answer.end()})

    async def _refuse(self, call: Call, kind: str, connection: Connection, word: str) -> None:
        status, _, after = word.partition(";")
        if after:
            self._not_before[call.edge, kind] = time.monotonic() + int(after)
        await connection.refuse(int(status), after)

    def _check_patience(self, call: Call, kind: str) -> None:
        left_s = self._not_before.get((call.edge, kind), 0.0) - time.monotonic()
        what = f"{kind} {left_s:.2f} s before Retry-After was over"
        self.seen.check("P17", what, holds=left_s <= EARLY_S)

    # Streams

    def _position(self, call: Call) -> int | None:
        """The client's position; None if its log forked before it (P4)."""
        text = call.headers.get("last-event-id") or call.query.get("after", "0")
        number, _, log = text.partition(":")
        position = int(number) if number.isdecimal() else -1
        acked, whole = self.seen.acked, self.seen.whole
        what = f"it asked for what follows {text!r}, had acked {acked} and was sent {whole}"
        self.seen.check("P12", what, holds=acked <= position <= whole)
        log = log or call.query.get("log", FIRST_LOG)
        return None if log != self._log and position >= self._fork else position

    async def _stream(self, call: Call, connection: Connection) -> None:
        self._check_patience(call, "stream")
        self.seen.check("P4", "it came back for what is refused for good", holds=not self._refused)
        async with self._changed:
            self.seen.streams += 1
            self._changed.notify_all()
        position = self._position(call)
        script = ["held"] if self.case.only_polls else self._refused or next(self._scripts, None)
        if position is None:
            self._refused = ["410"]
            await connection.refuse(410)
        elif script and script[0] == "204":
            await connection.answer(204)
        elif script and is_status(script[0]):
            self._refused = script if script[0] in FOR_GOOD else None
            await self._refuse(call, "stream", connection, script[0])
        elif script is not None:
            await Telling(self, call, connection).tell(script)
        elif position >= self._answer.last_seq:
            await connection.answer(204)
        else:
            rest = [f"{position + 1}-{self._answer.last_seq}", "end"]
            await Telling(self, call, connection).tell(rest)

    def state(self, word: str) -> dict[str, object]:
        status, reason = STATES[word]
        state: dict[str, object] = {"status": status, "reason": reason, "log_id": self._log}
        state |= {"edge": "edge", "window": WINDOW, "acked_seq": self.seen.acked}
        state |= {
            "generated_tokens": says.tokens(self.seen.whole),
            "rto_ms": None,
            "retransmits": 0,
        }
        return state | {"silence_ms": self.case.silence_ms}

    async def until(self, holds: Callable[[], bool]) -> None:
        async with self._changed:
            await self._changed.wait_for(holds)

    def bytes_of(self, seq: int, log: str) -> bytes:
        if seq == 0:
            return says.event("end", self._answer.end())
        if log and log != self._log:
            self._log, self._fork = log, seq
        return says.chunk(seq, self._log if self._fork else "")

    def state_event(self, word: str) -> bytes:
        return says.event("state", self.state(word))
