"""Pages of a log from replicas, for readers who replay it; never for a decision.

A primary names its replicas, and one that is in step is used. It may lag all the same, or have
chunks that its new primary lacks. A page counts only if it has every chunk that its caller knows
of, and none of another log (P4.14). In any other case the primary is asked, also while no replica
answers in time.
"""

import asyncio
import random
import re
from collections.abc import Sequence
from typing import Any

from valkey.exceptions import ResponseError

from lore.protocol.messages import ChunkMessage, View
from lore.store.types import StoreUnavailable
from lore.store.valkey.client.connection import Link
from lore.store.valkey.client.functions import Functions
from lore.store.valkey.client.location import Address, Location
from lore.store.valkey.client.replies import Redirected

PAGE_S = 0.25
"""How many seconds a replica may take for a page."""
LOOK_EVERY_S = 5.0
_IN_STEP = re.compile(r"^slave\d+:ip=([^,]+),port=(\d+),state=online", re.MULTILINE)

Command = tuple[str | int, ...]


class Replica(Link):
    run_id = ""
    """The life of the primary that named it."""
    in_cluster = False

    async def _on_up(self) -> None:
        if self.in_cluster:
            await self._send("READONLY")


class Replicas:
    """One replica for each primary in use, looked for when first needed."""

    def __init__(self, location: Location, primaries: Sequence[Functions], **limits: Any) -> None:
        self._location = location
        self._primaries = primaries
        self._limits = limits
        self._replicas: dict[Functions, Replica] = {}
        self._looked_s: dict[Functions, float] = {}
        self._looking: set[asyncio.Task[None]] = set()

    async def entries(self, primary: Functions, command: Command) -> list[Any] | None:
        """A replica's reply; None when the primary has no replica, or it does not answer."""
        replica = self._replicas.get(primary)
        if replica is None or not replica.is_up or replica.run_id != primary.run_id:
            self._look_soon(primary)
            return None
        try:
            async with asyncio.timeout(PAGE_S):
                return await replica.call(*command)
        except TimeoutError:
            replica.drop()
        except (StoreUnavailable, Redirected, ResponseError):
            self._look_soon(primary)
        return None

    async def close(self) -> None:
        """Close the connections. Call it after the primaries' are closed, so that no replica is
        looked for.
        """
        if self._looking:
            await asyncio.wait(self._looking)
        for primary in list(self._replicas):
            await self._replicas.pop(primary).close()

    def _look_soon(self, primary: Functions) -> None:
        now_s = asyncio.get_running_loop().time()
        if now_s - self._looked_s.get(primary, -LOOK_EVERY_S) >= LOOK_EVERY_S:
            self._looked_s[primary] = now_s
            looking = asyncio.create_task(self._look(primary))
            self._looking.add(looking)
            looking.add_done_callback(self._looking.discard)

    async def _look(self, primary: Functions) -> None:
        try:
            run_id, info = primary.run_id, await primary.call("INFO", "replication")
        except StoreUnavailable:
            return
        others = {*self._primaries} - {primary}
        for gone in [one for one in self._replicas if one not in others]:
            await self._replicas.pop(gone).close()
        if found := _IN_STEP.findall(info):
            host, port = random.choice(found)
            replica = Replica(self._location.endpoint_at(Address(host, int(port))), **self._limits)
            replica.run_id = run_id
            replica.in_cluster = self._location.way == "cluster"
            replica.start()
            self._replicas[primary] = replica


def is_whole(page: Sequence[ChunkMessage], after: int, limit: int, known: View) -> bool:
    """Whether no chunk is missing, as far as ``known`` tells."""
    count = min(limit, known.next_seq - 1 - after)
    return 0 < count <= len(page) and all(
        chunk.seq == seq and seq <= known.shared(chunk.log_id)
        for seq, chunk in enumerate(page, after + 1)
    )
