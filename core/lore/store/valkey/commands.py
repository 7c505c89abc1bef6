"""Executes each command. Nearly all are one call of the library."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from lore.protocol.commands import (
    Append,
    Claim,
    Command,
    Look,
    Meet,
    Prompt,
    Readers,
    Revive,
    Waiting,
)
from lore.store.base import Claimed, Outcome, Position
from lore.store.keys import own_channel
from lore.store.types import Admit, Open
from lore.store.valkey.appends import Appends
from lore.store.valkey.calls import answers
from lore.store.valkey.codec import claimed_from, position_from
from lore.store.valkey.packing import JOINED_VERSION, LOOKING_VERSION, pack, pack_waiting
from lore.store.valkey.room import FIRST_VERSION, Room

T = TypeVar("T")

SINCE: dict[type, int] = {Prompt: FIRST_VERSION, Readers: LOOKING_VERSION}
"""The VERSION of the library from which on it has a command."""


class Commands(Room):
    def __init__(self, appends: Appends) -> None:
        self.append = appends.send
        self._ways: dict[type, Callable[[Any], Awaitable[Any]]] = {
            Append: self._append,
            Claim: self._claim,
            Waiting: self._waiting,
            Meet: self._meet,
            Look: self._look,
            Prompt: self._unless_old,
            Readers: self._unless_old,
            Admit: self._begin,
            Open: self._begin,
            Revive: self._begin,
        }

    def do(self, command: Command[T]) -> Awaitable[T]:
        return self._ways.get(type(command), self._change)(command)

    async def _append(self, command: Append) -> Position:
        """Append to one request alone, and ask for its position."""
        partition, keys, arguments = pack(command, self._functions)
        functions = self._functions[partition]
        reply = await functions.fcall("lore_append_all", keys, self._now_ms(), *arguments)
        return position_from(reply[0])

    async def _claim(self, command: Claim) -> Claimed | None:
        call = pack(command, self._functions)
        run_id = self.run_id(command.partition)
        return claimed_from(await self._call(command, call), run_id)

    async def _waiting(self, command: Waiting) -> list[tuple[int, int]]:
        groups = self._asked_together()
        calls = [pack_waiting(command, some, self._functions[some[0]]) for some in groups]
        replies = await answers(self._call(command, call) for call in calls)
        places: list[tuple[int, int]] = []
        for some, reply in zip(groups, replies, strict=True):
            found = [reply] if len(some) == 1 else reply or [None] * len(some)
            places += ((ms, one) for one, ms in zip(some, found, strict=True) if ms is not None)
        return sorted(places)

    def _asked_together(self) -> list[list[int]]:
        """The partitions, grouped by what one call can ask for."""
        groups: dict[Any, list[int]] = {}
        for partition, server in enumerate(self._functions):
            alone = server.is_of_cluster or server.version < JOINED_VERSION
            groups.setdefault(partition if alone else server, []).append(partition)
        return list(groups.values())

    async def _meet(self, command: Meet) -> list[str]:
        if self._of("").version < LOOKING_VERSION:
            return []
        return await self._change(command)

    async def _look(self, command: Look) -> list[str]:
        partition, owners = command
        names = (own_channel(partition, owner) for owner in owners)
        found = await self._functions[partition].ask("PUBSUB", "SHARDNUMSUB", *names)
        return [owner for owner, count in zip(owners, found[1::2], strict=True) if count]

    async def _unless_old(self, command: Prompt | Readers) -> Position:
        if self._of(command.request_id).version < SINCE[type(command)]:
            return Position(Outcome.OK, None)  # no caller uses the position
        return await self._change(command)
