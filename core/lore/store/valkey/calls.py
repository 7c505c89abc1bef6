"""What all parts of the store in Valkey share: calling a function of the library."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

from lore.protocol.commands import name_of
from lore.store.base import StoreUnavailable
from lore.store.keys import partition_of
from lore.store.valkey.client.functions import Functions
from lore.store.valkey.packing import FunctionCall, answer_from, pack

T = TypeVar("T")


class FunctionCalls:
    """The connection for each partition's calls, and the replacement of the server's clock in
    tests.
    """

    _functions: Sequence[Functions]
    _now_ms: Callable[[], int]

    def run_id(self, partition: int) -> str:
        return self._functions[partition].run_id

    def _of(self, request_id: str) -> Functions:
        return self._functions[partition_of(request_id)]

    async def _change(self, command: Any) -> Any:
        return answer_from(command, await self._call(command, pack(command, self._functions)))

    def _call(self, command: Any, call: FunctionCall) -> Awaitable[Any]:
        name = f"lore_{name_of(command.__class__)}"
        functions = self._functions[call.partition]
        return functions.fcall(name, call.keys, self._now_ms(), *call.arguments)


async def answers(calls: Iterable[Awaitable[T]]) -> list[T | None]:
    """The answers in order; None for a server of a cluster that is away. Raises StoreUnavailable
    when all are away.
    """
    found = await asyncio.gather(*calls, return_exceptions=True)
    away = [answer for answer in found if isinstance(answer, BaseException)]
    for error in away:
        if len(away) == len(found) or not isinstance(error, StoreUnavailable):
            raise error
    return [None if isinstance(answer, BaseException) else answer for answer in found]
