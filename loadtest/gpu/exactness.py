"""Greedy tokens are equal, whatever the window, parking, a takeover, two batches or graphs.

The model has the 8B's layers in float64, and few of them. Another batch or another graph changes
the last bits of a score. In float64 that changes no choice; in float32, one in some ten thousand.
So this is about the loop, the scheduler and the sampler, not about kernels.
"""

import queue
import time
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

from loadtest.gpu.parts import Row, left
from loadtest.harness.prompts import GREEDY, prompts_of
from lore.messages import Message
from lore.request import StreamRequest
from lore_generator.engine import Job, Piece
from lore_generator.engines.loading import Loaded
from lore_generator.engines.options import TransformersOptions
from lore_generator.engines.transformers_engine import TransformersEngine

SWITCHES = ("off", "on")
Ids = tuple[int, ...]


class Readers:
    """An engine, and readers who each take a window at a time."""

    def __init__(self, options: TransformersOptions, loaded: Loaded) -> None:
        self._pieces: queue.SimpleQueue[Sequence[Piece]] = queue.SimpleQueue()
        self._engine = TransformersEngine(options, loaded)
        self._engine.start(self._pieces.put)
        self._turn = 0
        self.exceeded = 0
        """Tokens beyond a window."""

    def stop(self) -> None:
        self._engine.stop()

    def read(
        self,
        requests: Sequence[StreamRequest],
        window: int | None,
        until_s: float,
        logs: Sequence[Ids] | None = None,
        most: int | None = None,
    ) -> list[Ids]:
        """The whole answers. ``logs``: what another generator made of each. ``most``: all leave
        once they have so many tokens.
        """
        self._turn += 1
        names = [f"{self._turn}.{number}" for number in range(len(requests))]
        had = {name: list(log) for name, log in zip(names, logs or [()] * len(names), strict=True)}
        limits = {name: window and len(had[name]) + window for name in names}
        for name, request in zip(names, requests, strict=True):
            self._engine.submit(Job(name, request, tuple(had[name])), limits[name])
        reading = set(names)
        while reading:
            for piece in self._next(until_s):
                if piece.error:
                    raise RuntimeError(piece.error)
                name, limit = piece.request_id, limits.get(piece.request_id, 0)
                if name not in reading:
                    continue
                had[name] += piece.token_ids
                if limit is not None:
                    self.exceeded += max(0, len(had[name]) - limit)
                if piece.finish_reason or (most is not None and len(had[name]) >= most):
                    reading.discard(name)
                    self._engine.cancel(name)
                elif limit is not None and window is not None and len(had[name]) == limit:
                    # It is parked until its reader has read all that there is.
                    limits[name] = limit + window
                    self._engine.grant(name, limits[name])
        return [tuple(had[name][:most]) for name in names]

    def _next(self, until_s: float) -> Sequence[Piece]:
        try:
            return self._pieces.get(timeout=left(until_s))
        except queue.Empty:
            raise TimeoutError("the answers did not come in time") from None


def compare(
    loaded: Loaded, options: dict[str, Any], answers: int, tokens: int, until_s: float
) -> Iterator[Row]:
    requests = [
        StreamRequest(messages=[Message(role="user", content=prompt)], max_tokens=tokens, **GREEDY)
        for prompt in prompts_of(1, answers)
    ]
    expected: list[Ids] = []
    for async_batching, cuda_graphs in product(SWITCHES, SWITCHES):
        switches: dict[str, Any] = {"async_batching": async_batching, "cuda_graphs": cuda_graphs}
        left(until_s)
        try:
            readers = Readers(TransformersOptions(**options, **switches), loaded)
        except ValueError as error:
            yield {**switches, "not_run": str(error)}
            continue
        try:
            expected = expected or readers.read(requests, None, until_s)
            for window in (None, 32, 8):
                yield {**switches, "window": window} | _row(
                    readers, requests, window, expected, until_s
                )
            logs = readers.read(requests, 8, until_s, most=tokens // 3)
            yield {**switches, "window": 8, "taken_over_at": tokens // 3} | _row(
                readers, requests, 8, expected, until_s, logs
            )
        finally:
            readers.stop()


def _row(
    readers: Readers,
    requests: Sequence[StreamRequest],
    window: int | None,
    expected: Sequence[Ids],
    until_s: float,
    logs: Sequence[Ids] | None = None,
) -> Row:
    began_s, readers.exceeded = time.perf_counter(), 0
    got = readers.read(requests, window, until_s, logs)
    equal = sum(ours == theirs for ours, theirs in zip(got, expected, strict=True))
    return {
        "answers": len(got),
        "equal": equal,
        "beyond_the_window": readers.exceeded,
        "took_s": round(time.perf_counter() - began_s, 2),
    }


def passed(rows: Sequence[Row]) -> bool:
    """Whether all ran, on all switches, with equal answers and no token beyond a window."""
    return bool(rows) and all(
        "not_run" not in row and row["equal"] == row["answers"] and not row["beyond_the_window"]
        for row in rows
    )
