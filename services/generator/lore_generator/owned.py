"""One request under this generator's lease: what it is and how far it is."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from lore.protocol.assembly import CoalesceConfig
from lore.protocol.chunk import Chunk
from lore.protocol.producer import Producer
from lore.protocol.window import Window, WindowConfig
from lore.request import Ack, StreamRequest
from lore.store.base import Claimed
from lore.store.keys import partition_of
from lore_generator.engine import Job, Piece


@dataclass(slots=True, eq=False)
class Owned:
    """Times are those of the event loop's clock, in seconds."""

    request_id: str
    epoch: int
    log_id: str
    job: Job
    producer: Producer
    claimed_s: float
    renewed_s: float
    """When the store last renewed the lease."""
    queued_s: float | None
    """How long it had waited when it was claimed; None once its first chunk is in the log."""
    partition: int = field(init=False)
    submitted: bool = False
    """The engine has it. A request without credit is not worth a prefill."""
    granted: int | None = None
    """The credit that the engine was last told."""
    sending: asyncio.Task[None] | None = None
    """The append in flight."""
    alarm_s: float | None = None
    """The earliest alarm that is set for it."""
    stepped_s: float | None = None
    """Its last decoding step since it was last parked."""
    finished: bool = False
    """The engine has said its last piece."""
    error: str = ""
    prompt_tokens: int = 0

    def __post_init__(self) -> None:
        self.partition = partition_of(self.request_id)

    @property
    def parked(self) -> bool:
        """Out of credit: its batch slot is someone else's."""
        return self.producer.window.is_closed(self.producer.generated_tokens)

    def on_piece(self, piece: Piece, now: float) -> bool:
        """Take what a step brought. True when it was the last for now: parked, or finished."""
        if piece.text or piece.token_ids:
            self.producer.on_piece(piece.text, piece.token_ids, now)
        self.prompt_tokens = piece.prompt_tokens or self.prompt_tokens
        parked = self.parked
        self.stepped_s = None if parked else now
        if piece.finish_reason is not None:
            self.finished = True
            self.error = piece.error or ""
            self.producer.on_finish(piece.finish_reason)
        return parked or self.finished


def from_claim(
    claimed: Claimed,
    history: Sequence[Chunk],
    window: WindowConfig,
    coalesce: CoalesceConfig,
    now: float,
) -> Owned:
    """Take a claimed request up where its log ends.

    Raises ValueError when the request cannot be read: it was kept by another version.
    """
    view = claimed.view
    request = StreamRequest.model_validate_json(claimed.body)
    job = Job(
        # Unique for each claim: a late piece of an earlier one cannot be taken for this one's.
        f"{view.request_id}.{view.epoch:x}",
        request,
        tuple(token_id for chunk in history for token_id in chunk.token_ids),
        "".join(chunk.text for chunk in history),
    )
    first_claim = view.started_ms == view.progress_ms
    return Owned(
        request_id=view.request_id,
        epoch=view.epoch,
        log_id=view.log_id,
        job=job,
        producer=Producer(history, _window(claimed, request, window), coalesce),
        claimed_s=now,
        renewed_s=now,
        queued_s=(view.started_ms - view.created_ms) / 1000 if first_claim else None,
        prompt_tokens=view.prompt_tokens,
    )


def _window(claimed: Claimed, request: StreamRequest, config: WindowConfig) -> Window:
    view = claimed.view
    if request.ack is Ack.NONE:
        size = 0
    elif request.window is not None:
        size, config = request.window, WindowConfig.fixed(request.window)
    else:
        # What the last owner's window had grown to; before the first, where the edge starts it.
        size = min(view.window or config.initial_tokens, config.maximum_tokens)
    return Window(
        config,
        size=size,
        acked_tokens=view.acked_tokens,
        generated_tokens=view.generated_tokens,
    )
