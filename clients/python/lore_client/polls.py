"""Polls: beside a stream that is silent, and in place of one that is held back (protocol P18)."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from http import HTTPStatus

import httpx
from pydantic import ValidationError

from lore_client.edges import NO_PROTOCOL, TryAgain, describe, judge
from lore_client.events import LoreError, Poll
from lore_client.protocol.fallback import CATCH_UP_S, WAIT_S, Fallback
from lore_client.reading import Reading


class StreamHeldBack(Exception):
    """Something on the way holds the stream back; ``poll`` has what the stream did not bring."""

    def __init__(self, poll: Poll) -> None:
        super().__init__("the stream is held back")
        self.poll = poll


class Polls:
    def __init__(self, reading: Reading) -> None:
        self.fallback = Fallback()
        self._reading = reading
        self._listening: asyncio.Timeout | None = None
        self._found: Poll | None = None

    async def ask(self, wait_s: float) -> Poll:
        """Poll for what follows the receiver's position. Raises TryAgain and LoreError."""
        reading, position = self._reading, self._reading.receiver.position
        try:
            response = await reading.call(
                "GET",
                wait_s=wait_s,
                params={"after": reading.after, "wait": f"{wait_s:g}"},
                headers={"Accept": "application/json"},
            )
            if response.status_code != HTTPStatus.OK:
                raise judge(response)
            poll = Poll.model_validate_json(response.content)
        except httpx.RequestError as error:
            raise TryAgain(describe(error)) from error
        except ValidationError as error:
            raise TryAgain(NO_PROTOCOL, heard=False) from error
        if poll.after != position:
            raise TryAgain(NO_PROTOCOL, heard=False)
        reading.counters.polls += 1
        return poll

    # beside a stream

    @contextmanager
    def listening(self, until: asyncio.Timeout, now: float) -> Generator[None, None, None]:
        """The reader waits for the stream, until ``until`` at most; it has been silent since
        ``now``.
        """
        self._listening = until
        self.fallback.on_heard(now)
        try:
            yield
        finally:
            self._listening = None

    def check(self) -> None:
        """Call after the wait has ended: raises StreamHeldBack if that is why."""
        if self._found is not None:
            poll, self._found = self._found, None
            raise StreamHeldBack(poll)

    async def watch(self) -> None:
        """End the wait if the stream is held back. Runs as a task beside it."""
        now, fallback = asyncio.get_running_loop().time, self.fallback
        while True:
            # Arriving events move ask_at, so it is checked again after a pause.
            await asyncio.sleep(max(fallback.ask_at - now(), CATCH_UP_S))  # as P18 says
            if self._listening is None:
                fallback.on_heard(now())  # the caller took this time, so the stream is not to blame
            elif now() >= fallback.ask_at and (poll := await self._past_the_stream()) is not None:
                self._found = poll
                fallback.on_held_back(now())
                self._listening.reschedule(now())
                return

    async def _past_the_stream(self) -> Poll | None:
        """Return a poll with news that the stream, which is waited for, has still not brought; else
        None.
        """
        fallback, heard_at = self.fallback, self.fallback.heard_at
        try:
            poll = await self.ask(WAIT_S if fallback.is_told else 0)
        except (TryAgain, LoreError):
            # The stream finds out what the error means. An edge that fails is not asked again at
            # once.
            await asyncio.sleep(WAIT_S)  # no event tells when it works again
            return None
        if not self._is_ahead(poll):
            return None
        await asyncio.sleep(CATCH_UP_S)  # the stream may be about to bring the same text
        heard = fallback.heard_at > heard_at + CATCH_UP_S  # more than parts of a line
        return None if heard or self._listening is None else poll

    def _is_ahead(self, poll: Poll) -> bool:
        ended, position = poll.end is not None, self._reading.receiver.position
        return self.fallback.is_ahead(poll.seq, ended=ended, position=position)
