"""The engine on transformers' continuous batching: paged KV, one batch, one window each.

There are three threads. In the caller's, every method but ``start`` and ``stop`` returns at once.
The intake thread turns questions into tokens, so that a long prompt delays neither the caller nor
the batch. The loop's thread decodes and calls the sink.
"""

import itertools
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog
import torch
from transformers import GenerationConfig, PreTrainedModel
from transformers.generation.configuration_utils import ContinuousBatchingConfig
from transformers.generation.continuous_batching.continuous_api import (
    ContinuousBatchingManager,
    OutputRouter,
)
from transformers.generation.continuous_batching.input_outputs import ContinuousBatchingAsyncIOs
from transformers.generation.continuous_batching.requests import (
    GenerationOutput,
    RequestState,
    RequestStatus,
)
from transformers.generation.continuous_batching.utils import (
    attn_mask_is_needed,
    get_accelerator_graph_name,
)

from lore.protocol.logprobs import Likely, Scored, likely
from lore_generator.engine import EngineInfo, EngineStats, Job, Piece, Sink
from lore_generator.engines import loading
from lore_generator.engines.conversation import Refused
from lore_generator.engines.fetching import fetch_before_idle
from lore_generator.engines.graphs import score_in_graphs
from lore_generator.engines.loading import Loaded
from lore_generator.engines.options import Switch, TransformersOptions
from lore_generator.engines.prompt import Prepared, grammars_of, prepare
from lore_generator.engines.sampling import DECODING_KEY, Decoding, Sampler, Sampling
from lore_generator.engines.shortage import OUT_OF_MEMORY, survive
from lore_generator.engines.window_scheduler import (
    SCHEDULER_TYPE,
    Enqueue,
    Grant,
    Park,
    WindowScheduler,
)

CPU_KV_TOKENS = 16_384
CPU_BATCH_TOKENS = 512
NO_MEMORY = "the generator has not enough memory for this request"
BAD_GRAMMAR = "the answer's format is too complex to be kept to"

log = structlog.get_logger()


@dataclass(slots=True, eq=False)
class _Run:
    """One submission. Its key names it in the loop: a request may be submitted again while the loop
    still has its earlier run.
    """

    key: str
    job: Job
    limit: int | None
    prepared: Prepared | None = None
    admitted: bool = False
    taken: int = 0
    """The tokens of this run that the loop has delivered."""


class TransformersEngine:
    """Decodes with transformers. ``WindowScheduler`` decides which requests decode."""

    def __init__(
        self, options: TransformersOptions | None = None, loaded: Loaded | None = None
    ) -> None:
        """``loaded``: a model that is in memory already; unset, that of the options is loaded."""
        self._options = options or TransformersOptions()
        self._given = loaded
        self._lock = threading.Lock()
        self._by_request: dict[str, _Run] = {}
        self._by_key: dict[str, _Run] = {}
        self._keys = itertools.count()
        self._intake = ThreadPoolExecutor(1, thread_name_prefix="lore-intake")
        self._stopping = False

    def start(self, sink: Sink) -> EngineInfo:
        options = self._options
        if options.threads is not None:
            torch.set_num_threads(options.threads)
        self._loaded = self._given or loading.load(options)
        self._sink = sink
        self._grammars = grammars_of(self._loaded)
        self._manager = self._open_manager()
        processor = self._manager.batch_processor
        assert processor is not None
        scheduler = processor.scheduler
        assert isinstance(scheduler, WindowScheduler)
        self._scheduler = scheduler
        self._context_tokens = self._fit_context(scheduler)
        self._manager.start()
        model = self._loaded.model
        return EngineInfo(
            self._loaded.name,
            options.slots,
            self._context_tokens,
            self._loaded.tokenizer_file,
            self._loaded.revision,
            {"device": str(model.device), "dtype": str(model.dtype).removeprefix("torch.")},
            self._loaded.parts,
            self._loaded.switches,
        )

    def submit(self, job: Job, limit: int | None) -> None:
        run = _Run(str(next(self._keys)), job, limit)
        self.cancel(job.request_id)
        with self._lock:
            self._by_request[job.request_id] = self._by_key[run.key] = run
        self._intake.submit(self._prepare, run)

    def grant(self, request_id: str, limit: int | None) -> None:
        with self._lock:
            run = self._by_request.get(request_id)
            if run is None or run.limit is None or (limit is not None and limit <= run.limit):
                return
            run.limit = limit
            if run.admitted:
                self._send(Grant(run.key, limit))

    def hold(self, request_id: str) -> None:
        with self._lock:
            if run := self._by_request.get(request_id):
                run.limit = 0
                if run.admitted:
                    self._send(Grant(run.key, 0))

    def park(self, request_id: str, ahead_tokens: int) -> None:
        with self._lock:
            run = self._by_request.get(request_id)
            if run is not None and run.admitted:
                self._send(Park(run.key, ahead_tokens))

    def cancel(self, request_id: str) -> None:
        with self._lock:
            if run := self._by_request.get(request_id):
                self._forget(run)

    def stats(self) -> EngineStats:
        return self._scheduler.stats

    def alive(self) -> bool:
        return self._manager.is_running() and (
            self._manager.background_thread_status.fatal_error is None
        )

    def trouble(self) -> str:
        return ""

    def stop(self) -> None:
        self._stopping = True
        self._intake.shutdown(cancel_futures=True)
        if not hasattr(self, "_manager"):
            return
        self._manager.stop(block=True, hard_stop=True)
        self._manager.destroy()
        del self._loaded, self._scheduler

    def _open_manager(self) -> ContinuousBatchingManager:
        options, model = self._options, self._loaded.model
        eos = sorted(self._loaded.eos_ids)
        try:
            config = batching_config(options, model)
            manager = model.init_continuous_batching(  # pyright: ignore[reportCallIssue]
                GenerationConfig(do_sample=False, eos_token_id=eos or -1), config
            )
            manager.logit_processor = Sampler(self._grammars, partial(self._fail, why=BAD_GRAMMAR))
            manager.output_router = _Router(self)
            processor = manager.batch_processor = manager._create_batch_processor()  # noqa: SLF001
            if any(processor.cb_config.cuda_graph_booleans):
                score_in_graphs(processor)
            manager.warmup()
            if processor.use_async_batching:
                fetch_before_idle(processor)
            if options.tp_plan is None:  # one rank cannot leave a step that the others finish
                survive(manager, partial(self._fail, why=NO_MEMORY))
        except (*OUT_OF_MEMORY, ValueError) as error:
            raise ValueError(f"cannot serve {self._loaded.name}: {error}") from None
        return manager

    def _fit_context(self, scheduler: WindowScheduler) -> int:
        """The longest request: more than the whole KV memory could never be decoded."""
        config = self._loaded.model.config.get_text_config()
        limits = (
            self._options.context_tokens,
            getattr(config, "max_position_embeddings", None),
            scheduler.cache.num_blocks * self._options.kv_page_tokens,
        )
        return min(limit for limit in limits if limit)

    def _prepare(self, run: _Run) -> None:
        """Turn a job into a request of the loop. Runs in the intake thread."""
        job = run.job
        try:
            self._admit(run)
        except Refused as refused:
            self._end(run, Piece(job.request_id, finish_reason=refused.reason, error=str(refused)))
        except OUT_OF_MEMORY:
            self._end(run, Piece(job.request_id, finish_reason="error", error=NO_MEMORY))
        except Exception:
            log.exception("request not prepared", request_id=_named(job.request_id))
            self._end(run, _failure(job.request_id))

    def _admit(self, run: _Run) -> None:
        """Admit a run to the loop. Raises Refused."""
        job = run.job
        prepared = run.prepared = prepare(job, self._loaded, self._context_tokens, self._grammars)
        if prepared.finish_reason is not None:
            self._end(
                run,
                Piece(
                    job.request_id,
                    text=prepared.unsent + prepared.transcript.finish(),
                    finish_reason=prepared.finish_reason,
                    prompt_tokens=prepared.prompt_tokens,
                ),
            )
            return
        sampling = Sampling.of(job.request_id, job.request)
        with self._lock:
            if run.key not in self._by_key:
                return
            decoding = Decoding(
                prepared.prompt_tokens, run.limit, sampling, prepared.grammar, job.request.logprobs
            )
            state = RequestState(
                run.key,
                prepared.tokens,
                streaming=True,
                max_new_tokens=prepared.room,
                eos_token_id=sorted(self._loaded.eos_ids),
                logit_processor_kwargs={DECODING_KEY: decoding},
            )
            run.admitted = True
            prompt = prepared.tokens[: prepared.prompt_tokens]
            shown = tuple(prompt) if job.request.return_token_ids else ()
            self._sink([Piece(job.request_id, prompt_tokens=len(prompt), prompt_ids=shown)])
            self._send(Enqueue(state))

    def _send(self, command: "Enqueue | Grant | Park | str") -> None:
        """Send a command to ``WindowScheduler.set_request_cancellation``, and wake the loop."""
        self._manager.cancel_request(command)  # type: ignore[arg-type]

    def _forget(self, run: _Run) -> None:
        """Forget a run. Call it with the lock held."""
        self._by_key.pop(run.key, None)
        if self._by_request.get(run.job.request_id) is run:
            del self._by_request[run.job.request_id]
        if run.admitted:
            self._send(run.key)

    def _end(self, run: _Run, piece: Piece) -> None:
        with self._lock:
            wanted = run.key in self._by_key
            self._forget(run)
        if wanted:
            self._sink([piece])

    def _fail(self, key: str, why: str) -> None:
        """Fail one request. Runs in the loop's thread."""
        if run := self._by_key.get(key):
            self._end(run, Piece(run.job.request_id, finish_reason="error", error=why))

    def deliver(self, outputs: Sequence[GenerationOutput]) -> None:
        """Pass on what a step produced, as pieces. Runs in the loop's thread, once for each
        step.
        """
        # FAILED means that the whole loop ends: the caller of ``alive`` then hands the requests
        # back.
        outputs = [output for output in outputs if output.status != RequestStatus.FAILED]
        if self._stopping:
            return
        with self._lock:
            runs = [(self._by_key.get(output.request_id), output) for output in outputs]
        pieces = [self._piece(run, output) for run, output in runs if run is not None]
        if pieces:
            self._sink(pieces)

    def _piece(self, run: _Run, output: GenerationOutput) -> Piece:
        prepared, request_id = run.prepared, run.job.request_id
        assert prepared is not None
        before = run.taken
        tokens = output.generated_tokens[before:]
        run.taken += len(tokens)
        eos_ids = self._loaded.eos_ids
        try:
            text = prepared.unsent + prepared.transcript.feed(t for t in tokens if t not in eos_ids)
            prepared.unsent = ""
        except Exception:
            log.exception("tokens not decoded", request_id=_named(request_id))
            with self._lock:
                self._forget(run)
            return _failure(request_id, tuple(tokens))
        reason = None
        if prepared.transcript.stopped:
            reason = "stop"
        elif output.is_finished():
            reason = "stop" if tokens and tokens[-1] in eos_ids else "length"
        if reason is not None:
            text += prepared.transcript.finish()
            with self._lock:
                self._forget(run)
        return Piece(
            request_id,
            tuple(tokens),
            text,
            reason,
            prompt_tokens=prepared.prompt_tokens,
            scored=self._scored(tokens, output.logprobs[before:]),
        )

    def _scored(self, tokens: Sequence[int], numbers: Sequence[Any]) -> tuple[Scored, ...]:
        """``numbers``: ``measured.Numbers`` of each token, or none at all."""

        def one(token: int, logprob: float) -> Likely:
            return likely(token, self._grammars.text_of(token), logprob)

        return tuple(
            Scored(one(token, of.logprob), tuple(one(*other) for other in of.top))
            for token, of in zip(tokens, numbers, strict=bool(numbers))
        )


def batching_config(
    options: TransformersOptions, model: PreTrainedModel
) -> ContinuousBatchingConfig:
    """Raises ValueError if the model's device cannot do what the options want."""
    device, on_cpu = model.device.type, model.device.type == "cpu"
    # Without flash attention, each step has a mask as wide as the KV memory. Its transfer, and the
    # padding of a graph, cost more than they save: so transformers judges, too.
    is_worth_it = not attn_mask_is_needed(model.config)
    devices = len(set(getattr(model, "hf_device_map", {}).values()))
    is_worth_it &= options.tp_plan is None and devices <= 1
    pairs = device in ContinuousBatchingAsyncIOs._supported_device_types  # noqa: SLF001
    graphs = pairs and get_accelerator_graph_name() is not None
    kv_tokens = options.kv_tokens or (CPU_KV_TOKENS if on_cpu else None)
    batch_tokens = options.batch_tokens or (CPU_BATCH_TOKENS if on_cpu else None)
    return ContinuousBatchingConfig(
        scheduler_type=SCHEDULER_TYPE,
        max_requests_per_batch=options.slots,
        page_size=options.kv_page_tokens,
        num_blocks=kv_tokens and -(-kv_tokens // options.kv_page_tokens),
        max_batch_tokens=batch_tokens and max(batch_tokens, options.slots),
        auto_switch_to_flash=False,
        use_async_batching=_is_on(
            "LORE_ASYNC_BATCHING", options.async_batching, pairs, is_worth_it
        ),
        use_cuda_graph=_is_on("LORE_CUDA_GRAPHS", options.cuda_graphs, graphs, is_worth_it),
    )


def _is_on(name: str, switch: Switch, can: bool, is_worth_it: bool) -> bool:
    if switch == "on" and not can:
        raise ValueError(f"{name}=on needs a GPU")
    return switch == "on" or (switch == "auto" and can and is_worth_it)


class _Router(OutputRouter):
    """Hands the loop's outputs to the engine instead of a queue."""

    def __init__(self, engine: TransformersEngine) -> None:
        super().__init__()
        self._engine = engine

    def deliver(self, output: GenerationOutput) -> None:
        self._engine.deliver([output])

    def deliver_batch(self, outputs: list[GenerationOutput]) -> None:
        self._engine.deliver(outputs)


def _failure(request_id: str, tokens: tuple[int, ...] = ()) -> Piece:
    return Piece(request_id, tokens, finish_reason="error", error="the generator failed here")


def _named(job_id: str) -> str:
    """The request id in a job id, whose second part is the claim."""
    return job_id.partition(".")[0]
