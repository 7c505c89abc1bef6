"""A stream's server-sent events, over one connection after the other (PROTOCOL.md)."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

import httpx

from lore_client.edges import NO_PROTOCOL, TryAgain
from lore_client.polls import Polls
from lore_client.protocol.silence import Silence
from lore_client.reading import Reading
from lore_client.sse import ServerEvent, SseParser

MAX_EVENT_CHARS = 4 * 1_048_576
"""The most characters that an edge may send between two empty lines."""


class Source:
    def __init__(self, reading: Reading, polls: Polls) -> None:
        self.silence = Silence(reading.config.silence_s)
        self.retry_s = reading.config.retry_s
        """The base of the backoff in seconds, as an edge last named it."""
        self.heard_at = 0.0
        """When an edge last sent a whole line, or answered."""
        self._reading = reading
        self._polls = polls

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[httpx.Response, None]:
        """Open a stream; the response has its head. Raises httpx.RequestError and TimeoutError."""
        reading, timeout_s = self._reading, self._reading.config.call_timeout_s
        async with AsyncExitStack() as opened:
            async with asyncio.timeout(timeout_s) as until:
                with self._polls.listening(until, _now()):
                    response = await opened.enter_async_context(
                        reading.http.stream(
                            "GET",
                            reading.url,
                            params={"after": reading.after},
                            headers={
                                "Accept": "text/event-stream",
                                "Accept-Encoding": "identity",
                            },
                            timeout=httpx.Timeout(timeout_s, read=None),
                        )
                    )
            yield response

    async def events(self, response: httpx.Response) -> AsyncGenerator[ServerEvent, None]:
        """The events of a response. Raises TryAgain when it breaks, and StreamHeldBack."""
        parser = SseParser()
        body = response.aiter_raw()
        self.heard_at = _now()
        waited_s, lines = 0.0, 0
        while True:
            # An edge that drips bytes counts as silent: only whole lines count. The caller's time
            # between two events does not.
            began = _now()
            gap_at, silent_at = (
                self._reading.receiver.gap_deadline,
                began + self.silence.limit_s - waited_s,
            )
            try:
                async with asyncio.timeout_at(min(silent_at, gap_at or silent_at)) as until:
                    with self._polls.listening(until, began - waited_s):
                        data = await anext(body, None)
            except TimeoutError as error:
                self._polls.check()
                if gap_at is not None and gap_at < silent_at:
                    raise TryAgain("a missing chunk was not sent again") from error
                self.silence.on_silent()
                raise TryAgain("no answer") from error
            if data is None:
                raise TryAgain("the edge ended the connection")
            events = parser.feed(data)
            if parser.pending_chars > MAX_EVENT_CHARS:
                raise TryAgain(NO_PROTOCOL, heard=False)
            waited_s += _now() - began
            if parser.lines > lines:
                waited_s, lines = 0.0, parser.lines
                self.heard_at = _now()
            for event in events:
                if parser.retry_ms is not None:
                    self.retry_s = max(parser.retry_ms / 1000, 0.05)
                yield event


def _now() -> float:
    return asyncio.get_running_loop().time()
