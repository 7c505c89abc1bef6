"""The part of HTTP/1.1 that a scripted edge needs, with control over every byte."""

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import cast
from urllib.parse import parse_qs, urlsplit


class Gone(Exception):
    """The client or the script has closed the connection."""


@dataclass(frozen=True, slots=True)
class Call:
    edge: int
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def wants_stream(self) -> bool:
        return "text/event-stream" in self.headers.get("accept", "")

    def json(self) -> dict[str, object]:
        try:
            value = json.loads(self.body)
        except ValueError:
            return {}
        return cast("dict[str, object]", value) if isinstance(value, dict) else {}

    def __str__(self) -> str:
        query = "".join(f" {name}={value}" for name, value in self.query.items())
        last = self.headers.get("last-event-id", "")
        return f"{self.method} {self.path}{query}" + (f" Last-Event-ID: {last}" if last else "")


class Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def call(self, edge: int) -> Call:
        """Read the next call. Raises Gone."""
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
            first, *fields = head.decode("latin-1").strip().split("\r\n")
            headers = {
                name.lower(): value.strip()
                for name, _, value in (field.partition(":") for field in fields)
            }
            body = await self._reader.readexactly(int(headers.get("content-length", 0)))
        except (asyncio.IncompleteReadError, OSError) as error:
            raise Gone from error
        method, target, _ = first.split(" ")
        parts = urlsplit(target)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        return Call(edge, method, parts.path, query, headers, body)

    async def answer(
        self, status: int, body: object = None, headers: Mapping[str, str] | None = None
    ) -> None:
        data = b"" if body is None else json.dumps(body).encode()
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
        if body is not None:
            lines.append("Content-Type: application/json")
        if status != HTTPStatus.NO_CONTENT:
            lines.append(f"Content-Length: {len(data)}")
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        await self._send("\r\n".join([*lines, "", ""]).encode() + data)

    async def refuse(self, status: int, retry_after: str = "", code: str = "") -> None:
        codes = {400: "invalid", 401: "unauthorized", 404: "not_found", 409: "ack_ahead_of_log"}
        codes |= {410: "history_lost", 429: "queue_full", 503: "store_unavailable"}
        error = {"code": code or codes[status], "message": f"a scripted {status}"}
        headers = {"Retry-After": retry_after} if retry_after else {}
        if status == HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = "Bearer"
        await self.answer(status, {"error": error}, headers)

    async def open_stream(self) -> None:
        lines = ["HTTP/1.1 200 OK", "Content-Type: text/event-stream; charset=utf-8"]
        lines += ["Cache-Control: no-store, no-transform", "Transfer-Encoding: chunked"]
        await self._send("\r\n".join([*lines, "", ""]).encode())

    async def say(self, data: bytes) -> None:
        """Send a piece of the stream as its own HTTP chunk; client libraries deliver it as one."""
        await self._send(b"%x\r\n%b\r\n" % (len(data), data))

    async def end_stream(self) -> None:
        await self._send(b"0\r\n\r\n")

    async def until_left(self) -> None:
        with suppress(OSError):
            await self._reader.read()
        raise Gone

    def close(self, *, reset: bool = False) -> None:
        if reset:
            self._writer.transport.abort()
        else:
            self._writer.close()

    async def _send(self, data: bytes) -> None:
        try:
            self._writer.write(data)
            await self._writer.drain()
        except OSError as error:
            raise Gone from error
        if self._writer.is_closing():
            raise Gone
