"""Appends of one turn of the event loop, joined into one call for each partition."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from lore.store.base import Position, StoreUnavailable
from lore.store.codec import position_from
from lore.store.functions import Functions
from lore.store.keys import partition_keys
from lore.store.replies import FunctionMissing, Redirected

MOST = 256  # requests in one call: Valkey serves nobody else meanwhile

Future = asyncio.Future[Position]
Command = tuple[str | int, ...]


class Batch:
    """Appends of one owner to requests of one partition."""

    def __init__(self, partition: int, owner: str, lease_ms: int) -> None:
        self.partition = partition
        self._keys: list[str] = [*partition_keys(partition)]
        self._common = (owner, lease_ms)
        self._arguments: list[str | int] = []
        self.answers: list[Future] = []

    def add(self, keys: tuple[str, str], arguments: list[str | int], answer: Future) -> None:
        self._keys += keys
        self._arguments += arguments
        self.answers.append(answer)

    def command(self, now_ms: int, run_id: str) -> Command:
        keys = self._keys
        head = ("FCALL", "lore_append_all", len(keys), *keys)
        return (*head, now_ms, *self._common, run_id, *self._arguments)


class Appends:
    def __init__(self, functions: Sequence[Functions], now_ms: Callable[[], int]) -> None:
        self._functions = functions
        self._now_ms = now_ms
        self._batches: dict[tuple[int, str, int], Batch] = {}
        self._repeats: set[asyncio.Task[None]] = set()

    def add(
        self,
        partition: int,
        owner: str,
        lease_ms: int,
        keys: tuple[str, str],
        arguments: list[str | int],
    ) -> Future:
        """``keys`` and ``arguments`` of one request, as ``lua/log.lua`` has them."""
        loop = asyncio.get_running_loop()
        answer: Future = loop.create_future()
        if not self._batches:
            loop.call_soon(self._send)
        name = (partition, owner, lease_ms)
        batch = self._batches.get(name)
        if batch is None or len(batch.answers) == MOST:
            if batch is not None:
                self._call(batch)
            batch = self._batches[name] = Batch(*name)
        batch.add(keys, arguments, answer)
        return answer

    def _send(self) -> None:
        batches, self._batches = self._batches, {}
        for batch in batches.values():
            self._call(batch)

    def _call(self, batch: Batch) -> None:
        functions = self._functions[batch.partition]
        command = batch.command(self._now_ms(), functions.run_id)
        try:
            reply = functions.call(*command)
        except StoreUnavailable as error:
            _fail(batch, error)
        else:
            reply.add_done_callback(partial(self._on_reply, functions, batch, command))

    def _on_reply(
        self, functions: Functions, batch: Batch, command: Command, reply: asyncio.Future[Any]
    ) -> None:
        error = reply.exception()
        if error is None:
            _settle(batch, reply.result())
        elif isinstance(error, FunctionMissing | Redirected):
            repeat = asyncio.create_task(_repeat(functions, batch, command, error))
            self._repeats.add(repeat)
            repeat.add_done_callback(self._repeats.discard)
        else:
            _fail(batch, error)


async def _repeat(functions: Functions, batch: Batch, command: Command, why: Exception) -> None:
    try:
        _settle(batch, await functions.again(why, command))
    except Exception as error:  # noqa: BLE001 - it is for those who wait
        _fail(batch, error)


def _settle(batch: Batch, replies: list[Any]) -> None:
    for answer, reply in zip(batch.answers, replies, strict=True):
        if not answer.done():  # its caller may have gone away
            answer.set_result(position_from(reply))


def _fail(batch: Batch, error: BaseException) -> None:
    for answer in batch.answers:
        if not answer.done():
            answer.set_exception(error)
