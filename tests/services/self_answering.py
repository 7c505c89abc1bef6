"""A store in memory that answers by itself: every request reaches some state of life at once,
and whoever follows one that is not over sees it end."""

from itertools import cycle
from typing import Any

from lore.protocol.chunk import Chunk
from lore.protocol.commands import Append, Claim, Finish, Reap, Revive
from lore.protocol.lifecycle import ENDED, Status
from lore.store import MemoryStore
from lore.store.base import Claimed, Listener, Outcome
from lore.store.keys import partition_of
from lore.store.types import Open

OWNER = "generator-1"
LEASE_MS = RETENTION_MS = 600_000


class SelfAnsweringStore(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.start_fates_again()
        self._working: dict[str, Claimed] = {}

    def start_fates_again(self) -> None:
        """From here on, requests come to the same states as at first."""
        self._fates = cycle(["reaped", "writing", "done", "failed"])

    async def do(self, command: Any) -> Any:
        answer: Any = await super().do(command)
        if isinstance(command, Open) and answer.created:
            await self._begin(command.new.request_id, next(self._fates))
        elif isinstance(command, Revive) and answer.outcome is Outcome.OK:
            await self._begin(command.request_id, "writing")
        return answer

    async def follow(self, request_id: str, listener: Listener) -> None:
        await super().follow(request_id, listener)
        await self._end(request_id)

    async def _begin(self, request_id: str, fate: str) -> None:
        """Nothing else waits in any queue: what is accepted is claimed before the next call."""
        claimed = await self.do(Claim(partition_of(request_id), OWNER, LEASE_MS))
        assert claimed is not None
        assert claimed.view.request_id == request_id
        self._working[request_id] = claimed
        await self._write(request_id, 'a "piece" of\n')
        match fate:
            case "done":
                await self._finish(request_id, Status.DONE)
            case "failed":
                await self._finish(request_id, Status.FAILED, "the prompt is too long")
            case "reaped":
                await self.do(Reap(request_id, idle_ms=0, retention_ms=RETENTION_MS))

    async def _end(self, request_id: str) -> None:
        """At once, so that what later calls find does not depend on time."""
        view = await self.view(request_id)
        if view is not None and view.status is Status.REAPED:
            await self.do(Revive(request_id))
        if view is not None and view.status not in ENDED:
            await self._write(request_id, "text 🙂")
            await self._finish(request_id, Status.DONE)

    async def _write(self, request_id: str, text: str) -> None:
        view = self._working[request_id].view
        seq = len(await self.log(request_id)) + 1
        lease = (request_id, OWNER, LEASE_MS, view.epoch, view.log_id)
        chunk = Chunk(seq, text, (seq,), seq)
        await self.do(Append(*lease, window=32, reopen_tokens=0, chunks=[chunk]))

    async def _finish(self, request_id: str, status: Status, error: str = "") -> None:
        view = self._working[request_id].view
        command = Finish(
            request_id,
            OWNER,
            view.epoch,
            len(await self.log(request_id)) + 1,
            log_id=view.log_id,
            status=status,
            finish_reason="stop" if status is Status.DONE else "error",
            error=error,
            prompt_tokens=7,
            retention_ms=RETENTION_MS,
        )
        await self.do(command)
