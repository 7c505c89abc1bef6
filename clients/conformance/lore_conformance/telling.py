"""One stream of an edge, sent word by word (``script.py``)."""

from collections.abc import Callable
from typing import Protocol

from lore_conformance import answer as says
from lore_conformance.http import Call, Connection, Gone
from lore_conformance.script import STATES, WORD, pieces


class Seen(Protocol):
    acked: int
    acks: int
    streams: int
    polls: int
    sent: set[int]


class Teller(Protocol):
    """What a stream needs from its edges."""

    @property
    def seen(self) -> Seen: ...

    def bytes_of(self, seq: int, log: str) -> bytes: ...

    def state_event(self, word: str) -> bytes: ...

    async def until(self, holds: Callable[[], bool]) -> None: ...


class Telling:
    """Sends one stream, word by word."""

    def __init__(self, stand: Teller, call: Call, connection: Connection) -> None:
        self._stand = stand
        self._call = call
        self._connection = connection
        self._is_open = False

    async def tell(self, script: list[str]) -> None:
        for word in script:
            await self._word(word)
        await self._open()
        await self._connection.end_stream()

    async def _open(self) -> None:
        if self._is_open:
            return
        self._is_open = True
        await self._connection.open_stream()
        await self._connection.say(b"retry: 20\n\n" + self._stand.state_event("open"))

    async def _word(self, word: str) -> None:
        name, _, value = word.partition(":")
        if word == "held":
            await self._connection.until_left()
        if name == "wait":
            await self._wait(value)
            return
        await self._open()
        if known := WORD.fullmatch(word):
            await self._events(known["how"] or "", known["what"])
        elif name == "error":
            error = {"code": value, "message": f"a scripted {value}"}
            await self._connection.say(says.event("error", {"error": error}))
        elif word in STATES:
            await self._connection.say(self._stand.state_event(word))
            if word in ("drain", "store_lost"):
                await self._connection.say(b"retry: 30\n\n")
        elif word == "beat":
            beats = self._call.query.get("heartbeat") == "event"
            await self._connection.say(says.event("heartbeat", {}) if beats else b":\n\n")
        elif word == "news":
            await self._connection.say(
                says.event("news", {"seq": 1}) + b"news: of a later version\n\n"
            )
        elif word == "hold":
            await self._connection.until_left()
        else:
            self._connection.close(reset={"cut": False, "reset": True}[word])
            raise Gone

    async def _wait(self, what: str) -> None:
        seen = self._stand.seen
        name, _, value = what.partition("=")
        acks, streams = seen.acks, seen.streams
        conditions: dict[str, Callable[[], bool]] = {
            "ack": lambda: seen.acked >= int(value),
            "again": lambda: seen.acks > acks,
            "poll": lambda: seen.polls > 0,
            "stream": lambda: seen.streams > streams,
        }
        await self._stand.until(conditions[name])

    async def _events(self, how: str, what: str) -> None:
        parts = [(seq, self._stand.bytes_of(seq, log)) for seq, log in pieces(what)]
        if how in ("", "bytes", "joined"):
            self._stand.seen.sent |= {seq for seq, _ in parts if seq}
        match how:
            case "joined":
                await self._connection.say(b"".join(data for _, data in parts))
            case "bytes":
                for _, data in parts:
                    for at in range(len(data)):
                        await self._connection.say(data[at : at + 1])
            case _:
                for _, data in parts:
                    stop = {"half": says.half(data), "unfinished": len(data) - 1}.get(how)
                    await self._connection.say(data[:stop])
