"""What the shell keeps of one request beside its ``Owner``: its job and its measurements."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from lore.parts import formats
from lore.protocol.chunk import Chunk
from lore.protocol.owner import Owner
from lore.protocol.owner_types import Terms
from lore.protocol.producer import CoalesceConfig, Producer
from lore.protocol.window import Window, WindowConfig
from lore.request import AckKind, KeptRequest, StreamRequest
from lore.store.base import Claimed, View
from lore.store.keys import partition_of
from lore.tracing import NOTHING, Span
from lore_generator.engine import Job, Piece


@dataclass(slots=True, eq=False)
class OwnedRequest:
    """Times are those of the event loop's clock, in seconds."""

    owner: Owner
    job: Job
    claimed_s: float
    queued_s: float | None
    """How long it had waited when it was claimed; None once its first chunk is in the log."""
    request_id: str = field(init=False)
    producer: Producer = field(init=False)
    submitted: bool = False
    """Whether the engine has it. A request without credit is not worth a prefill."""
    granted: int | None = None
    """The credit last granted to the engine."""
    stepped_s: float | None = None
    """Its last decoding step since it was last parked."""
    parked: str = ""
    """Why it has no place in the batch: ``window``, or ``pace`` (P20)."""
    since_s: float = 0.0
    """When it was last taken into the batch, or out of it."""
    steps_s: float = 0.0
    step_tokens: int = 0
    """The total time of its steps here, without those after a pause, and the tokens that they
    produced.
    """
    counted_tokens: int = 0
    """Acknowledged tokens that were counted (``token_accounting.py``)."""
    prompt_tokens: int = 0
    """The length of the prompt, once the engine knows it."""
    told: tuple[int, str] = (0, "")
    """The length of the prompt, and the model that generates the answer, as the store knows them,
    or is just being told.
    """
    tells_prompt: bool = True
    """Whether the store may have to be told of them."""
    span: Span = NOTHING
    """The span of the work on it here."""

    def __post_init__(self) -> None:
        self.request_id = self.owner.request_id
        self.producer = self.owner.producer
        self.counted_tokens = self.view.acked_tokens
        self.told = self.view.prompt_tokens, self.view.model

    @property
    def view(self) -> View:
        return self.owner.view

    def on_piece(self, piece: Piece, now: float) -> bool:
        """Take what a step produced. Returns True when it was the last piece for now: parked, or
        finished.
        """
        last = self.owner.on_piece(
            piece.text,
            piece.token_ids,
            now,
            finish_reason=piece.finish_reason,
            error=piece.error or "",
            prompt_tokens=piece.prompt_tokens,
            scored=piece.scored,
        )
        self.stepped_s = None if last and self.owner.parked else now
        return last


def from_claim(
    claimed: Claimed,
    history: Sequence[Chunk],
    window: WindowConfig,
    coalesce: CoalesceConfig,
    terms: Terms,
    asked_s: float,
) -> OwnedRequest:
    """Continue a claimed request where its log ends.

    Raises ValueError when the request cannot be read because another version stored it.
    """
    view = claimed.view
    request = KeptRequest.read(claimed.body)
    job = Job(
        # Unique for each claim: a late piece of an earlier claim is not mistaken for one of this.
        f"{view.request_id}.{view.epoch:x}",
        request,
        tuple(token_id for chunk in history for token_id in chunk.token_ids),
        "".join(chunk.text for chunk in history),
    )
    first_claim = view.started_ms == view.progress_ms
    shows_ids = bool(request.return_token_ids)
    credit = _window(claimed, request, window)
    producer = Producer(history, credit, coalesce, shows_ids=shows_ids)
    return OwnedRequest(
        owner=Owner(claimed, partition_of(view.request_id), producer, terms, asked_s, request.pace),
        job=job,
        claimed_s=asked_s,
        queued_s=(view.started_ms - view.created_ms) / 1000 if first_claim else None,
    )


OTHER_FORMAT = "the model here calls tools in another way than the one that this was asked of"


def is_foreign(request: StreamRequest, parts: str) -> bool:
    """Whether its answer may call tools, and the model here, which writes ``parts``, would do it in
    a way that nobody expects."""
    expected = request.form().tools
    return bool(request.callable_names) and expected != formats.read(parts).tools


def _window(claimed: Claimed, request: StreamRequest, config: WindowConfig) -> Window:
    view = claimed.view
    if request.ack is AckKind.NONE:
        size = 0
    elif request.window is not None:
        size, config = request.window, WindowConfig.fixed(request.window)
    else:
        # The size that the last owner's window had reached; before the first, the edge's initial
        # size.
        size = min(view.window or config.initial_tokens, config.maximum_tokens)
    return Window(
        config,
        size=size,
        acked_tokens=view.acked_tokens,
        generated_tokens=view.generated_tokens,
    )
