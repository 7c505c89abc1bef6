"""A step's appends, in one call for each server (``lore_append_all``).

A server of a cluster gets a call for each partition, because there a function's keys must lie in
one slot. A step is passed on and answered as a whole: an append without complications needs no
object of its own on the way.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import structlog

from lore.protocol.commands import Append
from lore.store.base import Answers, Step, Tell
from lore.store.keys import partition_keys, partition_of, request_keys
from lore.store.valkey.client.functions import REPEATED, Functions
from lore.store.valkey.codec import chunk_arguments, position_from

log = structlog.get_logger()

MOST = 64
"""Requests in one call. Valkey serves nobody else during it, and edges pass on what one call has
published while it works on the next.
"""

Words = tuple[str | int, ...]


Steps = dict[int, list[tuple[Any, Append]]]
"""A step's appends by partition."""


class Appends:
    def __init__(self, functions: Sequence[Functions], now_ms: Callable[[], int]) -> None:
        self._functions = functions
        self._now_ms = now_ms
        self._repeats: set[asyncio.Task[None]] = set()

    def send(self, step: Step, tell: Tell) -> None:
        """Send appends of one owner. ``tell`` is called once for each call, with the appends in
        it.
        """
        for first in range(0, len(step), MOST):
            parts: Steps = defaultdict(list)
            for one in step[first : first + MOST]:
                parts[partition_of(one[1][0])].append(one)
            together: dict[Functions, Steps] = defaultdict(dict)
            for number, part in parts.items():
                functions = self._functions[number]
                if functions.is_of_cluster:
                    self._call(functions, {number: part}, tell)
                else:
                    together[functions][number] = part
            for functions, some in together.items():
                self._call(functions, some, tell)

    def _call(self, functions: Functions, parts: Steps, tell: Tell) -> None:
        step, keys, arguments = _packed(parts)
        _, (_, owner, lease_ms, *_) = step[0]
        head = ("FCALL", "lore_append_all", len(keys), *keys, self._now_ms(), owner, lease_ms)
        command = (*head, functions.run_id, *arguments, "acks")
        try:
            functions.call_back(partial(self._on_reply, functions, command, step, tell), command)
        except Exception as error:  # noqa: BLE001 - it is for those who wait
            asyncio.get_running_loop().call_soon(tell, step, error)

    def _on_reply(
        self, functions: Functions, command: Words, step: Step, tell: Tell, reply: Any
    ) -> None:
        if isinstance(reply, REPEATED):
            repeat = asyncio.create_task(self._repeat(functions, command, step, tell, reply))
            self._repeats.add(repeat)
            repeat.add_done_callback(self._repeats.discard)
            return
        failed = isinstance(reply, Exception)
        try:  # an error in there must not keep other replies from those who wait
            tell(step, reply if failed else _answers(step, reply, functions.run_id))
        except Exception:
            log.exception("answers to appends failed")

    async def _repeat(
        self, functions: Functions, command: Words, step: Step, tell: Tell, why: Exception
    ) -> None:
        try:
            replies = await functions.again(why, command)
            server = self._functions[partition_of(step[0][1].request_id)]
            answers = _answers(step, replies, server.run_id)
        except Exception as error:  # noqa: BLE001 - it is for those who wait
            answers = error
        tell(step, answers)


def _packed(parts: Steps) -> tuple[Step, list[str], list[str | int]]:
    """The appends in the order of the call, and its keys and arguments."""
    step: list[tuple[Any, Append]] = []
    keys: list[str] = []
    arguments: list[str | int] = []
    for number, part in parts.items():
        step += part
        keys += partition_keys(number)
        for _, (request_id, _, _, epoch, log_id, window, reopen_tokens, chunks) in part:
            keys += request_keys(request_id)
            arguments += (epoch, log_id, window, reopen_tokens, len(chunks))
            arguments += chunk_arguments(chunks)
    return step, keys, arguments


def _answers(step: Step, replies: Any, run_id: str) -> Answers | Exception:
    try:
        each = [one if type(one) is int else position_from(one) for one in replies]
        if len(each) != len(step):
            return ValueError(f"{len(each)} answers to {len(step)} appends")
        return Answers(run_id, each)
    except Exception as unreadable:  # noqa: BLE001 - it is for those who wait
        return unreadable
