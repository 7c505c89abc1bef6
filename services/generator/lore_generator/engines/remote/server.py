"""One server of an engine: its calls and its health.

Each streamed call has a connection of its own. Closing it tells the engine to stop. And an engine
that closes idle connections is not mistaken for one that died.
"""

import asyncio
import json
import math
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import cast

import aiohttp

from lore_generator.engines.remote.dialects.base import Event
from lore_generator.engines.remote.trouble import Kind, Trouble, of_status

MAX_LINE_BYTES = 16 * 1024 * 1024
"""The last event of a llama.cpp server repeats the prompt."""
MAX_SAID_CHARS = 300


class Server:
    def __init__(
        self,
        url: str,
        asks: aiohttp.ClientSession,
        calls: aiohttp.ClientSession,
        *,
        answer_s: float,
    ) -> None:
        """``calls`` must close each connection after its call."""
        self.url = url.rstrip("/")
        self.slots = 0
        self.why_down = "no answer yet"
        """'' while it is up."""
        self.calls = 0
        """Streamed calls under way."""
        self.waiting = 0
        """How many calls wait in the engine, as it reports."""
        self.kv_used_ratio = 0.0
        self.tells_load = True
        self._heard_s = -math.inf
        """When a call last brought something."""
        self._asks = asks
        self._calls = calls
        self._answer_s = answer_s
        self._patience: set[asyncio.Timeout] = set()

    @property
    def is_up(self) -> bool:
        return not self.why_down

    @property
    def has_room(self) -> bool:
        return self.is_up and self.calls < self.slots

    @property
    def is_decoding(self) -> bool:
        """Whether a call has brought something recently: such a server may be too busy to say what
        it serves.
        """
        return asyncio.get_running_loop().time() < self._heard_s + self._answer_s

    def down(self, why: str) -> None:
        """Mark it as down. Its calls are given up, because nothing more will come."""
        self.why_down = why
        for patience in self._patience:
            patience.reschedule(asyncio.get_running_loop().time())

    async def ask(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Event:
        """Ask for a short answer in JSON. Raises Trouble."""
        data = _parsed(await self.text(method, path, body))
        if not isinstance(data, dict):
            raise Trouble(Kind.UNFIT, f"its answer to {path} is not a JSON object")
        return cast("Event", data)

    async def text(self, method: str, path: str, body: Mapping[str, object] | None = None) -> str:
        """The same for an answer in any form."""
        try:
            try:
                return await self._text(method, path, body)
            except aiohttp.ServerDisconnectedError:  # it closes idle connections
                return await self._text(method, path, body)
        except TimeoutError:
            raise Trouble(Kind.SILENT, f"no answer for {self._answer_s:g} s") from None
        except aiohttp.ClientConnectorError as error:
            raise _of_error(error) from None
        except (
            aiohttp.ServerDisconnectedError,
            aiohttp.ClientResponseError,
            aiohttp.ClientOSError,  # reset, as by a server that closes with unread data
        ):
            tls = "; does it speak TLS?" if self.url.startswith("http:") else ""
            raise Trouble(Kind.FAILED, f"its answer is not HTTP{tls}") from None
        except (aiohttp.ClientError, OSError) as error:
            raise _of_error(error) from None

    async def _text(self, method: str, path: str, body: Mapping[str, object] | None) -> str:
        limit = aiohttp.ClientTimeout(total=self._answer_s)
        async with self._asks.request(
            method, self.url + path, json=body, timeout=limit, allow_redirects=False
        ) as answer:
            await _check(answer)
            return await answer.text(errors="replace")

    async def stream(
        self, path: str, body: Mapping[str, object], *, step_s: float
    ) -> AsyncGenerator[Event]:
        """The events of a streamed answer, to ``[DONE]`` or the end of the body.

        Close it (``aclosing``) to tell the engine to stop. ``step_s`` is the longest pause between
        events. Raises Trouble.
        """
        async with (
            self._call(path, body, step_s) as answer,
            aclosing(_lines(answer.content)) as lines,
        ):
            async for line in lines:
                self._heard_s = asyncio.get_running_loop().time()
                if line == b"[DONE]":
                    break
                yield _event(line)

    async def whole(self, path: str, body: Mapping[str, object], *, step_s: float) -> Event:
        """The answer to a call in one piece. Raises Trouble."""
        async with self._call(path, body, step_s) as answer:
            return _event(await answer.read())

    @asynccontextmanager
    async def _call(
        self, path: str, body: Mapping[str, object], step_s: float
    ) -> AsyncGenerator[aiohttp.ClientResponse]:
        limit = aiohttp.ClientTimeout(total=None, sock_connect=self._answer_s, sock_read=step_s)
        try:
            async with asyncio.timeout(None) as patience:
                self._patience.add(patience)
                try:
                    answer = await self._calls.post(
                        self.url + path, json=body, timeout=limit, allow_redirects=False
                    )
                    try:
                        await _check(answer)
                        yield answer
                    finally:
                        answer.close()
                finally:
                    self._patience.discard(patience)
        except TimeoutError:
            why = self.why_down or f"nothing came for {step_s:g} s"
            raise Trouble(Kind.SILENT, why) from None
        except (aiohttp.ClientError, OSError) as error:
            raise _of_error(error) from None


async def _check(answer: aiohttp.ClientResponse) -> None:
    """Raises Trouble. Redirects are not followed: prompts and the key go to nobody else."""
    if 300 <= answer.status < 400:
        to = answer.headers.get("Location", "").partition("?")[0][:MAX_SAID_CHARS]
        raise Trouble(Kind.UNFIT, f"it redirects to {to} (LORE_ENGINE_URL)")
    if answer.status != 200:
        said = _said(await answer.text(errors="replace"))
        key = answer.request_info.headers.get("Authorization", "").removeprefix("Bearer ")
        if key:
            said = said.replace(key, "…")  # some repeat it, and logs must not have it
        raise of_status(answer.status, said, answer.headers.get("Retry-After"))


def _parsed(text: str | bytes) -> object:
    """The JSON, or None."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


async def _lines(content: aiohttp.StreamReader) -> AsyncGenerator[bytes]:
    """The data of each server-sent event; engines write each on one line."""
    held = bytearray()
    async for data in content.iter_any():
        held += data
        if len(held) > MAX_LINE_BYTES:
            raise Trouble(Kind.FAILED, "an event without an end")
        *lines, rest = bytes(held).split(b"\n")
        held[:] = rest
        for line in lines:
            if line.startswith(b"data:"):
                yield line[5:].strip()
            elif line.startswith(b"error:"):
                raise Trouble(Kind.FAILED, _said(line[6:].decode(errors="replace")))
    if held.strip():
        raise Trouble(Kind.FAILED, "an event was cut off")


def _event(line: bytes) -> Event:
    event = _parsed(line)
    if not isinstance(event, dict):
        raise Trouble(Kind.FAILED, "an event is not a JSON object")
    event = cast("Event", event)
    if "error" in event:
        raise _of_error_event(event["error"])
    return event


def _of_error_event(error: object) -> Trouble:
    """The failure in an answer that failed after its head was sent."""
    code = cast("dict[str, object]", error).get("code") if isinstance(error, dict) else None
    said = _said(json.dumps({"error": error}))
    return of_status(code, said) if isinstance(code, int) else Trouble(Kind.FAILED, said)


def _of_error(error: Exception) -> Trouble:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        said = f"its certificate is refused (LORE_ENGINE_CA_FILE): {_first_line(error)}"
        return Trouble(Kind.UNFIT, said)
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        said = f"the TLS handshake failed; does it speak plain HTTP? {_first_line(error)}"
        return Trouble(Kind.UNFIT, said)
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return Trouble(Kind.AWAY, "its host name does not resolve")
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        return Trouble(Kind.AWAY, "nobody answers there")
    return Trouble(Kind.FAILED, "the connection broke")


def _said(text: str) -> str:
    """The message in an error's body, on one line: its ``message`` if it has one."""
    body = _parsed(text)
    for key in ("error", "detail", "message"):
        if isinstance(body, dict) and key in body:
            body = cast("Event", body)[key]
    if body is not None:
        text = body if isinstance(body, str) else json.dumps(body)
    return " ".join(text.split())[:MAX_SAID_CHARS]


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:MAX_SAID_CHARS]
