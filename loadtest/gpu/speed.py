"""Tokens a second and the time to the first one, beside the bare manager; and beside parked
requests."""

import queue
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from loadtest.gpu.parts import Row, free_memory, left, memory_gib
from loadtest.harness.bare_engine import LoreEngine, Manager, Side, generate, request
from loadtest.harness.prompts import prompts_of
from lore_generator.engine import Job, Piece
from lore_generator.engines.loading import Loaded
from lore_generator.engines.options import TransformersOptions
from lore_generator.engines.transformers_engine import TransformersEngine

OFF = {"async_batching": "off", "cuda_graphs": "off"}
ASYNC = {"async_batching": "on", "cuda_graphs": "off"}
BOTH = {"async_batching": "on", "cuda_graphs": "on"}
SIDES: tuple[tuple[str, Callable[..., Side], dict[str, Any]], ...] = (
    ("batching manager", Manager, OFF),
    ("Lore's engine", LoreEngine, OFF),
    ("batching manager, async", Manager, ASYNC),
    ("Lore's engine, async", LoreEngine, ASYNC),
    ("batching manager, async, graphs", Manager, BOTH),
    ("Lore's engine, async, graphs", LoreEngine, BOTH),
)


def beside_the_manager(
    loaded: Loaded,
    options: dict[str, Any],
    streams: Sequence[int],
    tokens: int,
    until_s: float,
) -> Iterator[Row]:
    for name, kind, switches in SIDES:
        left(until_s)
        free_memory()
        try:
            side = kind(TransformersOptions(**options, **switches), loaded)
        except ValueError as error:
            yield {"side": name, "not_run": str(error)}
            continue
        try:
            # What is done once is done: allocations, and the graphs of the usual sizes.
            generate(side, "first", prompts_of(0, 2), 4, left(until_s))
            for turn, count in enumerate(streams, 1):
                prompts = prompts_of(turn, count)
                took = generate(side, f"{turn}", prompts, tokens, left(until_s))
                yield {
                    "side": name,
                    "streams": count,
                    "tokens_per_s": round(took["tokens"] / took["took_s"], 1),
                    "first_token_p50_s": round(sorted(took["first_s"])[count // 2], 4),
                    "first_token_most_s": round(max(took["first_s"]), 4),
                    "memory_gib": memory_gib(),
                }
        finally:
            side.stop()


def beside_parked(
    loaded: Loaded,
    options: dict[str, Any],
    parked: Sequence[int],
    streams: int,
    tokens: int,
    until_s: float,
) -> Iterator[Row]:
    """Parked requests cost memory, and no time."""
    pieces: queue.SimpleQueue[Sequence[Piece]] = queue.SimpleQueue()
    engine = TransformersEngine(TransformersOptions(**options), loaded)
    engine.start(pieces.put)

    def arrive(names: set[str]) -> int:
        """Wait for one token of each, and for the ends of those that have no limit."""
        count = 0
        while names:
            try:
                batch = pieces.get(timeout=left(until_s))
            except queue.Empty:
                raise TimeoutError("the answers did not come in time") from None
            for piece in batch:
                if piece.error:
                    raise RuntimeError(piece.error)
                is_parked = piece.request_id.startswith("parked") and piece.token_ids
                count += len(piece.token_ids)
                if is_parked or piece.finish_reason:
                    names.discard(piece.request_id)
        return count

    try:
        names: list[str] = []
        for turn, wanted in enumerate(parked, 1):
            more = [f"parked.{number}" for number in range(len(names), wanted)]
            for name, prompt in zip(more, prompts_of(turn, len(more)), strict=True):
                engine.submit(Job(name, request(prompt, tokens)), 1)
            names += more
            arrive(set(more))
            began_s = time.perf_counter()
            others = {f"{turn}.{number}" for number in range(streams)}
            for name, prompt in zip(sorted(others), prompts_of(turn, streams), strict=True):
                engine.submit(Job(name, request(prompt, tokens)), None)
            count = arrive(set(others))
            took_s = time.perf_counter() - began_s
            stats = engine.stats()
            yield {
                "parked": stats.parked,
                "streams": streams,
                "tokens_per_s": round(count / took_s, 1),
                "kv_used": round(stats.kv_used_ratio, 3),
                "memory_gib": memory_gib(),
            }
    finally:
        engine.stop()
