"""A raw HTTP server that plays an edge by script, so that a test decides every byte and cut."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from lore_conformance import http
from lore_conformance.http import Call


@dataclass
class Connection:
    """What a script writes to."""

    call: Call
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, status: int, body: object = None, **headers: str) -> None:
        data = b"" if body is None else json.dumps(body).encode()
        lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        if status != 204:
            lines.append(f"Content-Length: {len(data)}")
        head = "\r\n".join([f"HTTP/1.1 {status} X", *lines, "Connection: close", "", ""])
        await self.send(head.encode() + data)

    async def open(self) -> None:
        """The head of a stream that ends when the connection does."""
        head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
        await self.send(head.encode() + b"retry: 0\n\n")

    async def event(self, name: str, **data: object) -> None:
        await self.send(f"event: {name}\ndata: {json.dumps(data)}\n\n".encode())

    async def chunk(self, seq: int, text: str, suffix: str = "") -> None:
        data = json.dumps({"seq": seq, "text": text, "tokens": seq})
        await self.send(f"id: {seq}{suffix}\ndata: {data}\n\n".encode())

    async def end(self, last_seq: int, status: str = "done", error: str | None = None) -> None:
        await self.event("end", status=status, finish_reason="stop", error=error, last_seq=last_seq)

    async def until_the_reader_leaves(self) -> None:
        await self.reader.read()


Script = Callable[[Connection], Awaitable[None]]


@dataclass
class ScriptedEdge:
    """Serves the n-th GET of a stream with the n-th script (the last one again after that)."""

    streams: Sequence[Script] = ()
    others: Mapping[str, Sequence[Script]] = field(default_factory=dict)
    """Scripts for the other calls, by method and last part of the path, such as ``POST ack``."""
    calls: list[Call] = field(default_factory=list)
    url: str = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    @property
    def acks(self) -> list[int]:
        return [json.loads(call.body)["seq"] for call in self.named("POST ack")]

    @property
    def opened(self) -> list[Call]:
        return [call for call in self.calls if self._is_stream(call)]

    @property
    def polls(self) -> list[Call]:
        return [call for call in self.calls if "wait" in call.query]

    def _others(self, name: str) -> list[Call]:
        return [call for call in self.named(name) if not self._is_stream(call)]

    def named(self, name: str) -> list[Call]:
        return [call for call in self.calls if self._name(call) == name]

    @staticmethod
    def _name(call: Call) -> str:
        return f"{call.method} {call.path.rpartition('/')[2]}"

    @staticmethod
    def _is_stream(call: Call) -> bool:
        return call.method == "GET" and call.headers.get("accept") == "text/event-stream"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            call = await http.Connection(reader, writer).call(0)
            name = self._name(call)
            scripts = self.streams if self._is_stream(call) else self.others.get(name, ())
            same = self.opened if self._is_stream(call) else self._others(name)
            self.calls.append(call)
            connection = Connection(call, reader, writer)
            if scripts:
                await scripts[min(len(same), len(scripts) - 1)](connection)
            else:
                await connection.answer(204)
        except (ConnectionError, http.Gone):
            pass  # the reader left; scripts do not have to expect it
        finally:
            writer.close()
