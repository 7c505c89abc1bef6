"""One request under this generator's lease: what it is and how far it is."""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lore.protocol.assembly import CoalesceConfig
from lore.protocol.chunk import Chunk
from lore.protocol.fork import fork
from lore.protocol.producer import Producer
from lore.protocol.window import Window, WindowConfig
from lore.request import Ack, KeptRequest, StreamRequest
from lore.store.base import Claimed, View
from lore.store.keys import partition_of
from lore.tracing import NOTHING, Span
from lore_generator.engine import Job, Piece


@dataclass(slots=True, eq=False)
class Owned:
    """Times are those of the event loop's clock, in seconds."""

    view: View
    """As the store had it at the claim, or as it was given back to it since."""
    body: str
    run_id: str
    """The server's life in which the store last knew it (``Store.run_id``)."""
    job: Job
    producer: Producer
    claimed_s: float
    renewed_s: float
    """When it was asked for the lease that it last gave: that one ends no sooner than it does
    here."""
    queued_s: float | None
    """How long it had waited when it was claimed; None once its first chunk is in the log."""
    request_id: str = field(init=False)
    epoch: int = field(init=False)
    partition: int = field(init=False)
    submitted: bool = False
    """The engine has it. A request without credit is not worth a prefill."""
    granted: int | None = None
    """The credit that the engine was last told."""
    sending: asyncio.Future[Any] | None = None
    """The append in flight."""
    alarm_s: float | None = None
    """The earliest alarm that is set for it."""
    stepped_s: float | None = None
    """Its last decoding step since it was last parked."""
    since_s: float = 0.0
    """When it was last taken into the batch, or out of it."""
    steps_s: float = 0.0
    step_tokens: int = 0
    """How long its steps took here, those after a pause not counted, and what they brought."""
    counted_tokens: int = 0
    """Acknowledged tokens that have been counted (``accounts.py``)."""
    finished: bool = False
    """The engine has said its last piece."""
    error: str = ""
    span: Span = NOTHING
    """Of the work on it here."""
    prompt_tokens: int = 0
    doubtful: bool = False
    """It was claimed before and nothing came of it, and nothing has yet (P15)."""

    def __post_init__(self) -> None:
        self.request_id = self.view.request_id
        self.epoch = self.view.epoch
        self.partition = partition_of(self.request_id)
        self.counted_tokens = self.view.acked_tokens

    @property
    def log_id(self) -> str:
        return self.view.log_id

    def known(self, run_id: str, *, alone: bool) -> tuple[View, Sequence[Chunk]]:
        """What this owner can tell a store, ``run_id``, that has forgotten the request (P3).

        ``alone``: the lease still runs, so nobody else can have added to the log, and all that
        was ever sent may be in it. Otherwise somebody may have gone on in it behind what the
        store is known to have had, and the log forks there (P4). The fork has the same name
        when the call has to be repeated.
        """
        producer = self.producer
        log = producer.made if alone else producer.stored
        acked_tokens = producer.window.acked_tokens
        acked_seq = next((c.seq for c in log if 0 < acked_tokens == c.tokens), 0)
        view = replace(
            self.view,
            window=producer.window.size,
            acked_seq=acked_seq,
            acked_tokens=acked_tokens if acked_seq else 0,
            prompt_tokens=self.prompt_tokens,
        )
        if alone:
            return view, log
        name = f"{view.log_id} {view.epoch} {run_id}".encode()
        forked = replace(
            view,
            log_id=hashlib.blake2b(name, digest_size=8).hexdigest(),
            forks=fork(view.forks, view.log_id, len(log) + 1),
        )
        return forked, log

    @property
    def parked(self) -> bool:
        """Out of credit: its batch slot is someone else's."""
        return self.producer.window.is_closed(self.producer.generated_tokens)

    def on_piece(self, piece: Piece, now: float) -> bool:
        """Take what a step brought. True when it was the last for now: parked, or finished."""
        if piece.text or piece.token_ids:
            parked = self.producer.on_piece(piece.text, piece.token_ids, now)
        else:
            parked = self.parked
        self.prompt_tokens = piece.prompt_tokens or self.prompt_tokens
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
    request = KeptRequest.model_validate_json(claimed.body)
    job = Job(
        # Unique for each claim: a late piece of an earlier one cannot be taken for this one's.
        f"{view.request_id}.{view.epoch:x}",
        request,
        tuple(token_id for chunk in history for token_id in chunk.token_ids),
        "".join(chunk.text for chunk in history),
    )
    first_claim = view.started_ms == view.progress_ms
    return Owned(
        view=view,
        body=claimed.body,
        run_id=claimed.run_id,
        job=job,
        producer=Producer(history, _window(claimed, request, window), coalesce),
        claimed_s=now,
        renewed_s=now,
        queued_s=(view.started_ms - view.created_ms) / 1000 if first_claim else None,
        prompt_tokens=view.prompt_tokens,
        doubtful=view.tries > 1,
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
