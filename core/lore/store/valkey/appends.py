"""A step's appends, in one call for each server (``lore_append_all``).

A server of a cluster gets a call for each partition, because there a function's keys must lie in
one slot. A step is passed on and answered as a whole: an append without complications needs no
object of its own on the way.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from lore.protocol.commands import Append
from lore.store.base import Answers, Step, Tell
from lore.store.codec import chunk_arguments, position_from
from lore.store.functions import REPEATED, Functions
from lore.store.keys import partition_keys, place_of

MOST = 256  # requests in one call: Valkey serves nobody else during it

Words = tuple[str | int, ...]


class _Part:
    """The appends to requests of one partition."""

    __slots__ = ("arguments", "keys", "step")

    def __init__(self, number: int) -> None:
        self.keys: list[str] = [*partition_keys(number)]
        self.arguments: list[str | int] = []
        self.step: list[tuple[Any, Append]] = []


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
            parts = _parts(step[first : first + MOST])
            together: dict[Functions, list[_Part]] = {}
            for number, part in parts.items():
                functions = self._functions[number]
                if functions.is_of_cluster:
                    self._call(functions, [part], tell)
                else:
                    together.setdefault(functions, []).append(part)
            for functions, some in together.items():
                self._call(functions, some, tell)

    def _call(self, functions: Functions, parts: Sequence[_Part], tell: Tell) -> None:
        step = [one for part in parts for one in part.step]
        keys = [key for part in parts for key in part.keys]
        arguments = [argument for part in parts for argument in part.arguments]
        _, (_, owner, lease_ms, *_) = step[0]
        head = ("FCALL", "lore_append_all", len(keys), *keys, self._now_ms(), owner, lease_ms)
        command = (*head, functions.run_id, *arguments, "acks")
        try:
            reply = functions.call(*command)
        except Exception as error:  # noqa: BLE001 - it is for those who wait
            asyncio.get_running_loop().call_soon(tell, step, error)
        else:
            reply.add_done_callback(partial(self._on_reply, functions, command, step, tell))

    def _on_reply(
        self,
        functions: Functions,
        command: Words,
        step: Step,
        tell: Tell,
        reply: asyncio.Future[Any],
    ) -> None:
        error = reply.exception()
        if error is None:
            tell(step, _answers(step, reply.result()))
        elif isinstance(error, REPEATED):
            repeat = asyncio.create_task(_repeat(functions, command, step, tell, error))
            self._repeats.add(repeat)
            repeat.add_done_callback(self._repeats.discard)
        else:
            assert isinstance(error, Exception)
            tell(step, error)


def _parts(step: Step) -> dict[int, _Part]:
    parts: dict[int, _Part] = {}
    for one in step:
        request_id, _, _, epoch, log_id, window, reopen_tokens, chunks = one[1]
        number, keys = place_of(request_id)
        part = parts.get(number)
        if part is None:
            part = parts[number] = _Part(number)
        part.keys += keys
        part.arguments += (epoch, log_id, window, reopen_tokens, len(chunks))
        part.arguments += chunk_arguments(chunks)
        part.step.append(one)
    return parts


def _answers(step: Step, replies: Any) -> Answers | Exception:
    try:
        answers = [one if type(one) is int else position_from(one) for one in replies]
        if len(answers) != len(step):
            return ValueError(f"{len(answers)} answers to {len(step)} appends")
        return answers
    except Exception as unreadable:  # noqa: BLE001 - it is for those who wait
        return unreadable


async def _repeat(
    functions: Functions, command: Words, step: Step, tell: Tell, why: Exception
) -> None:
    try:
        answers = _answers(step, await functions.again(why, command))
    except Exception as error:  # noqa: BLE001 - it is for those who wait
        answers = error
    tell(step, answers)
