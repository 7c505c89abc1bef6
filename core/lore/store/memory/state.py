"""The store's behaviour as a synchronous state machine: the twin of the library in ``lua``.

It has no asyncio, no clock, no randomness. ``do`` takes ``now_ms`` and answers at once, and
``outbox`` then has what Valkey would publish. The simulator uses it directly, ``MemoryStore`` puts
it behind the async interface, and ``tests/store`` checks that it and the Lua library give the same
answers.

``snapshot`` and ``restore`` play a server that comes back with less than it had. It then has
another ``run_id``, as a restarted Valkey has, so that P4 can be decided.
"""

from typing import TypeVar, cast

from lore.protocol.commands import Command, name_of
from lore.protocol.messages import Position
from lore.store.memory.lifecycle import Life
from lore.store.memory.log import Log
from lore.store.memory.queue import Queue
from lore.store.memory.records import UNKNOWN, Publication

__all__ = ["Publication", "StoreState"]

T = TypeVar("T")


class StoreState(Queue, Log, Life):
    """All requests of one store. Each command, and each question of ``Store``, has a method of its
    name; all take ``now_ms``. That of a command which asks for a request's position takes the
    request's record, too.
    """

    def do(self, command: Command[T], *, now_ms: int) -> T:
        step = getattr(self, name_of(type(command)))
        request_id, subject = (getattr(command, name, None) for name in ("request_id", "subject"))
        if request_id is None or command.answers is not Position:
            return step(command, now_ms=now_ms)
        record = self._find(request_id, now_ms)
        if record is None or subject not in (None, record.view.subject):
            return cast("T", UNKNOWN)
        return step(record, command, now_ms=now_ms)
