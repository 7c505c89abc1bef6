"""A peer that sends any bytes, and reads answers as RFC 9112 frames them."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, cast

from tests.services.edge_harness import WAIT_S


@dataclass
class Answer:
    version: str
    status: int
    headers: dict[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""

    @property
    def error(self) -> str:
        return json.loads(self.body)["error"]["code"] if self.status >= 400 and self.body else ""


class Ended(Exception):
    """The connection ended where an answer could have begun."""


class Peer:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        with contextlib.suppress(ConnectionError):
            await asyncio.wait_for(self.writer.drain(), WAIT_S)

    def end(self) -> None:
        self.writer.write_eof()

    async def head(self) -> Answer:
        """The next head; 100 (Continue) as well."""
        async with asyncio.timeout(WAIT_S):
            try:
                first = await self._reader.readline()
            except ConnectionError:
                first = b""
            if not first:
                raise Ended
            version, status, _ = first.decode("latin-1").split(" ", 2)
            answer = Answer(version, int(status))
            while line := (await self._reader.readline()).strip():
                name, _, value = line.decode("latin-1").partition(":")
                assert name.lower() not in answer.headers, f"{name} is there twice"
                answer.headers[name.lower()] = value.strip()
            return answer

    async def answer(self, method: str = "GET") -> Answer:
        """The next answer that is none of 1xx."""
        async with asyncio.timeout(WAIT_S):
            answer = await self.head()
            while answer.status < 200:
                answer = await self.head()
            if method != "HEAD" and answer.status not in (204, 304):
                answer.body = await self._body(answer.headers)
            return answer

    async def read(self) -> bytes:
        async with asyncio.timeout(WAIT_S):
            return await self._reader.read(65_536)

    async def ended(self) -> bool:
        """Whether the edge closes, having said nothing more."""
        try:
            async with asyncio.timeout(WAIT_S):
                return not await self._reader.read(1)
        except ConnectionError:
            return True

    def abort(self) -> None:
        cast("asyncio.Transport", self.writer.transport).abort()

    async def _body(self, headers: dict[str, str]) -> bytes:
        if "content-length" in headers:
            assert "transfer-encoding" not in headers
            return await self._reader.readexactly(int(headers["content-length"]))
        if headers.get("transfer-encoding") != "chunked":
            return await self._reader.read()
        body = b""
        while size := int(await self._reader.readline(), 16):
            body += await self._reader.readexactly(size)
            assert await self._reader.readexactly(2) == b"\r\n"
        assert await self._reader.readexactly(2) == b"\r\n"
        return body


@contextlib.asynccontextmanager
async def peer(port: int) -> AsyncIterator[Peer]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    one = Peer(reader, writer)
    try:
        yield one
    finally:
        one.abort()


def request(
    method: str = "GET",
    target: str = "/v1/models",
    *fields: str,
    body: bytes = b"",
    version: str = "HTTP/1.1",
    host: str | None = "edge.example",
) -> bytes:
    """A request that is right but for what the caller makes wrong."""
    lines = [f"{method} {target} {version}"]
    lines += [f"Host: {host}"] if host is not None else []
    lines += fields
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body


def post(*fields: str, body: bytes = b'{"question": "a"}', **changes: Any) -> bytes:
    """Creates a request: 201. Its length is told unless a field tells it, or how to find it."""
    told = any(f.lower().startswith(("content-length", "transfer-encoding")) for f in fields)
    length = () if told else (f"Content-Length: {len(body)}",)
    kind = "Content-Type: application/json"
    return request("POST", "/v1/streams", kind, *length, *fields, body=body, **changes)


def chunked(*parts: bytes, trailers: bytes = b"", extension: bytes = b"") -> bytes:
    chunks = [b"%x%b\r\n%b\r\n" % (len(part), extension, part) for part in parts]
    return b"".join(chunks) + b"0\r\n" + trailers + b"\r\n"
