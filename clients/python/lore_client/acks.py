"""Sends a stream's acknowledgments when the receiver says that they are due (protocol P9)."""

import asyncio
from http import HTTPStatus

import httpx

from lore_client.reading import Reading


class Acker:
    """A task beside the stream, so that acks and text do not wait for each other."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._receiver = reading.receiver
        self._changed = asyncio.Event()
        self._ending = False
        self._failures = 0
        self._sending: asyncio.Task[bool] | None = None

    def changed(self) -> None:
        """The receiver's deadline may have moved."""
        self._changed.set()

    def moved(self) -> None:
        """Another edge is in use: an ack that is under way to the old one may never be answered."""
        if self._sending is not None:
            self._sending.cancel()

    def end(self) -> None:
        """Make ``run`` return once nothing is left to acknowledge."""
        self._ending = True
        self._changed.set()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = self._receiver.deadline()
            if due is None and self._ending:
                return
            if due is None or due > loop.time():
                self._changed.clear()
                try:
                    async with asyncio.timeout_at(due):
                        await self._changed.wait()
                except TimeoutError:
                    pass
            elif (seq := self._receiver.take_ack(loop.time())) is not None:
                await self._send(seq)

    async def _send(self, seq: int) -> None:
        self._sending = asyncio.create_task(self._post(seq))
        try:
            await asyncio.wait({self._sending})
        finally:
            self._sending.cancel()
        if self._sending.cancelled():
            self._receiver.on_ack_lost(asyncio.get_running_loop().time())
            return
        if self._sending.result():
            self._failures = 0
            self._reading.counters.acks += 1
            return
        self._reading.counters.lost_acks += 1
        config = self._reading.config
        wait_s = config.backoff_s(self._failures, config.retry_s, config.ack_backoff_max_s)
        self._failures += 1
        self._receiver.on_ack_lost(asyncio.get_running_loop().time() + wait_s)

    async def _post(self, seq: int) -> bool:
        """Post an ack. Returns whether it arrived."""
        try:
            response = await self._reading.call("POST", "/ack", json={"seq": seq})
        except httpx.RequestError:
            if self._ending:
                self._reading.edges.advance()
            return False
        return response.status_code == HTTPStatus.NO_CONTENT
