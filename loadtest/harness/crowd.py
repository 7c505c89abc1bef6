"""Readers with Lore's own client, of whom some vanish and some are slow."""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from lore_client import End, Reader, Refused, Text

LEAVES_AFTER_CHUNKS = 4
HEALTHY, SLOW, VANISHING = "healthy", "slow", "vanishing"


@dataclass
class Member:
    """One reader of one answer."""

    kind: str
    request_id: str = ""
    seq: int = 0
    text: str = ""
    complete: bool = False
    done_s: float = 0.0
    """When it had everything; for one that vanished, when it left."""
    log_id: str = field(default="", repr=False)


def mixed(readers: int, vanishing: float, slow: float) -> list[Member]:
    """So many in these proportions, evenly mixed."""
    shares = {VANISHING: vanishing, SLOW: slow, HEALTHY: 1 - vanishing - slow}
    owed = dict.fromkeys(shares, 0.0)
    members: list[Member] = []
    for _ in range(readers):
        for kind, share in shares.items():
            owed[kind] += share
        kind = max(owed, key=lambda kind: owed[kind])
        owed[kind] -= 1
        members.append(Member(kind))
    return members


class Crowd:
    """``ack``: as in a request. With ``stops``, the edge's caller cancels what a vanished reader
    left behind, as a server does that aborts when its client disconnects."""

    def __init__(
        self,
        reader: Reader,
        members: Sequence[Member],
        *,
        ack: str,
        stops: bool,
        slow_every_s: float,
    ) -> None:
        self._reader = reader
        self._members = members
        self._acks = ack == "client"
        self._ack = ack
        self._stops = stops
        self._slow_every_s = slow_every_s
        self._hurry = asyncio.Event()

    async def ask(self, bodies: Sequence[dict[str, Any]]) -> None:
        for member, body in zip(self._members, bodies, strict=True):
            view = await self._reader.create(**body, ack=self._ack)
            member.request_id, member.log_id = view.request_id, view.log_id

    async def until_the_healthy_are_done(self, began_s: float) -> list[asyncio.Task[None]]:
        """Returns what the slow ones still do."""
        tasks = {
            member.request_id: asyncio.create_task(self._read(member, began_s))
            for member in self._members
        }
        slow = [tasks.pop(member.request_id) for member in self._members if member.kind == SLOW]
        await asyncio.gather(*tasks.values())
        return slow

    async def see_all_again(self, slow: Sequence[asyncio.Task[None]], began_s: float) -> None:
        """The slow ones hurry, and those who left come back."""
        self._hurry.set()
        back = [member for member in self._members if member.kind == VANISHING]
        await asyncio.gather(*slow, *(self._come_back(member, began_s) for member in back))

    async def _read(self, member: Member, began_s: float) -> None:
        left = LEAVES_AFTER_CHUNKS if member.kind == VANISHING else None
        await self._pull(member, left)
        member.done_s = time.perf_counter() - began_s
        if member.kind == VANISHING and self._stops:
            with contextlib.suppress(Refused):  # it had ended already
                await self._reader.stop(member.request_id)

    async def _come_back(self, member: Member, began_s: float) -> None:
        view = await self._reader.view(member.request_id)
        if view.status != "cancelled":
            await self._pull(member, None)
            member.done_s = time.perf_counter() - began_s

    async def _pull(self, member: Member, left: int | None) -> None:
        async with self._reader.stream(
            member.request_id, after=member.seq, log_id=member.log_id, acks=self._acks
        ) as stream:
            async for event in stream:
                if isinstance(event, End):
                    member.complete = True
                elif isinstance(event, Text):
                    member.seq, member.text = event.seq, member.text + event.text
                    if left is not None and (left := left - 1) == 0:
                        return
                    if member.kind == SLOW:
                        await self._wait()

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(self._slow_every_s):
                await self._hurry.wait()
        except TimeoutError:
            pass
