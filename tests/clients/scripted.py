"""A store in memory whose answers are as the last question says: its first word is the outcome."""

from dataclasses import dataclass
from typing import Any

from lore.messages import Message
from lore.protocol.chunk import Chunk
from lore.protocol.commands import Append, Cancel, Claim, Finish, Release
from lore.protocol.lifecycle import CONTEXT_EXCEEDED, Status
from lore.request import KeptRequest, context_exceeded
from lore.store import MemoryStore
from lore.store.base import Claimed
from lore.store.keys import partition_of
from lore.store.types import Open

OWNER = "generator-1"
LEASE_MS = RETENTION_MS = 600_000
PROMPT_TOKENS = 7


@dataclass(frozen=True)
class Outcome:
    """How an answer goes."""

    texts: tuple[str, ...]
    status: Status = Status.DONE
    finish_reason: str = "stop"
    error: str = ""
    taken_over_after: int = 0
    """Another generator goes on after so many chunks; 0 for none."""

    @property
    def text(self) -> str:
        return "".join(self.texts)


WORDS = ("Two ", "“words”\n", "\n🙂 and\u2028 one", " line.\n")
OUTCOMES: dict[str, Outcome] = {
    "text": Outcome(WORDS),
    "empty": Outcome(()),
    "blank": Outcome((" \n",)),
    "stopped": Outcome(WORDS[:2]),
    "length": Outcome(WORDS[:3], finish_reason="length"),
    "cut_to_nothing": Outcome((), finish_reason="length"),
    "cancelled": Outcome(WORDS[:2], Status.CANCELLED),
    "cancelled_at_once": Outcome((), Status.CANCELLED),
    "failed": Outcome(WORDS[:1], Status.FAILED, "error", "the generator failed here"),
    "failed_at_once": Outcome((), Status.FAILED, "error", "the generator failed here"),
    "refused_by_the_generator": Outcome(
        (), Status.FAILED, CONTEXT_EXCEEDED, context_exceeded(9, 9)
    ),
    "taken_over": Outcome(WORDS, taken_over_after=2),
}


class ScriptedStore(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.asked: dict[str, list[Message]] = {}
        """The messages of each request by its last question, as the generator gets them."""
        self.requests: dict[str, list[str]] = {}
        """The ids of the requests with this last question."""

    async def do(self, command: Any) -> Any:
        answer: Any = await super().do(command)
        if isinstance(command, Open) and answer.created:
            new = command.new
            messages = KeptRequest.model_validate_json(new.body).messages or []
            question = messages[-1].content
            self.asked[question] = messages
            self.requests.setdefault(question, []).append(new.request_id)
            if (outcome := OUTCOMES.get(question.partition(" ")[0])) is not None:
                await self._answer(new.request_id, outcome)
        return answer

    async def _answer(self, request_id: str, outcome: Outcome) -> None:
        claimed = await self._claim(request_id)
        seq = 0
        for text in outcome.texts:
            if outcome.taken_over_after and seq == outcome.taken_over_after:
                await self.do(Release(request_id, OWNER, claimed.view.epoch))
                claimed = await self._claim(request_id)
            seq += 1
            lease = (request_id, OWNER, LEASE_MS, claimed.view.epoch, claimed.view.log_id)
            chunk = Chunk(seq, text, (seq,), seq)
            await self.do(Append(*lease, window=32, reopen_tokens=0, chunks=[chunk]))
        if outcome.status is Status.CANCELLED:
            await self.do(Cancel(request_id, retention_ms=RETENTION_MS))
            return
        command = Finish(
            request_id,
            OWNER,
            claimed.view.epoch,
            seq + 1,
            log_id=claimed.view.log_id,
            status=outcome.status,
            finish_reason=outcome.finish_reason,
            error=outcome.error,
            prompt_tokens=PROMPT_TOKENS,
            retention_ms=RETENTION_MS,
        )
        await self.do(command)

    async def _claim(self, request_id: str) -> Claimed:
        """Nothing else waits in any queue."""
        claimed = await self.do(Claim(partition_of(request_id), OWNER, LEASE_MS))
        assert claimed is not None
        assert claimed.view.request_id == request_id
        return claimed
