"""Appends of one turn of the event loop, joined into one call for each server.

A server of a cluster takes a call for each partition, because a function's keys must lie in
one slot there.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from lore.store.base import Position
from lore.store.codec import position_from
from lore.store.functions import REPEATED, Functions
from lore.store.keys import partition_keys

MOST = 256  # requests in one call: Valkey serves nobody else meanwhile

Future = asyncio.Future[Position]
Command = tuple[str | int, ...]


class _Part:
    """What goes to requests of one partition."""

    def __init__(self, number: int) -> None:
        self.keys: list[str] = [*partition_keys(number)]
        self.arguments: list[str | int] = []
        self.answers: list[Future] = []


class Batch:
    """Appends of one owner to requests of one server."""

    def __init__(self, functions: Functions, owner: str, lease_ms: int) -> None:
        self.functions = functions
        self.size = 0
        self._common = (owner, lease_ms)
        self._parts: dict[int, _Part] = {}

    def add(
        self, partition: int, keys: tuple[str, str], arguments: list[str | int], answer: Future
    ) -> None:
        part = self._parts.get(partition)
        if part is None:
            part = self._parts[partition] = _Part(partition)
        part.keys += keys
        part.arguments += arguments
        part.answers.append(answer)
        self.size += 1

    def command(self, now_ms: int) -> Command:
        keys: list[str] = []
        arguments: list[str | int] = []
        for part in self._parts.values():
            keys += part.keys
            arguments += part.arguments
        head = ("FCALL", "lore_append_all", len(keys), *keys)
        return (*head, now_ms, *self._common, self.functions.run_id, *arguments)

    def settle(self, replies: list[Any]) -> None:
        for answer, reply in zip(self._answers(), replies, strict=True):
            if not answer.done():  # its caller may have gone away
                answer.set_result(position_from(reply))

    def fail(self, error: BaseException) -> None:
        for answer in self._answers():
            if not answer.done():
                answer.set_exception(error)

    def _answers(self) -> list[Future]:
        return [answer for part in self._parts.values() for answer in part.answers]


class Appends:
    def __init__(self, functions: Sequence[Functions], now_ms: Callable[[], int]) -> None:
        self._functions = functions
        self._now_ms = now_ms
        self._batches: dict[tuple[Functions, int, str, int], Batch] = {}
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
        functions = self._functions[partition]
        name = (functions, partition if functions.is_of_cluster else -1, owner, lease_ms)
        batch = self._batches.get(name)
        if batch is None or batch.size == MOST:
            if batch is not None:
                self._call(batch)
            batch = self._batches[name] = Batch(functions, owner, lease_ms)
        batch.add(partition, keys, arguments, answer)
        return answer

    def _send(self) -> None:
        batches, self._batches = self._batches, {}
        for batch in batches.values():
            self._call(batch)

    def _call(self, batch: Batch) -> None:
        try:
            command = batch.command(self._now_ms())
            reply = batch.functions.call(*command)
        except Exception as error:  # noqa: BLE001 - it is for those who wait
            batch.fail(error)
        else:
            reply.add_done_callback(partial(self._on_reply, batch, command))

    def _on_reply(self, batch: Batch, command: Command, reply: asyncio.Future[Any]) -> None:
        error = reply.exception()
        if error is None:
            try:
                batch.settle(reply.result())
            except Exception as unreadable:  # noqa: BLE001 - it is for those who wait
                batch.fail(unreadable)
        elif isinstance(error, REPEATED):
            repeat = asyncio.create_task(_repeat(batch, command, error))
            self._repeats.add(repeat)
            repeat.add_done_callback(self._repeats.discard)
        else:
            batch.fail(error)


async def _repeat(batch: Batch, command: Command, why: Exception) -> None:
    try:
        batch.settle(await batch.functions.again(why, command))
    except Exception as error:  # noqa: BLE001 - it is for those who wait
        batch.fail(error)
