"""A GPU's place in transformers' loop, taken by the CPU: the real loop has two batches in flight,
and records and replays real graphs.

A batch's tokens stay on the "device" until the host waits for the event behind their transfer: it
would read ``UNKNOWN`` before. The kernels themselves run at once, so what this cannot show is a
race between them. A graph is the list of a step's operations. Replayed, they run on the tensors
that they were recorded with, and nothing that Python did in between happens again.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers.generation.continuous_batching import (
    initialization,
    input_outputs,
    model_runner,
    offloading_manager,
)
from transformers.generation.continuous_batching.input_outputs import (
    ContinuousBatchingAsyncIOs,
    HostDeviceIOPair,
)

from lore_generator.engines import graphs, transformers_engine

UNKNOWN = -7


class Stream:
    def __init__(self) -> None:
        self.pending: list[Callable[[], object]] = []

    def record_event(self, event: "Event") -> None:
        event.pending, self.pending = self.pending, []

    def wait_event(self, event: "Event") -> None: ...

    def synchronize(self) -> None: ...


class Event:
    def __init__(self, *_: object, **__: object) -> None:
        self.pending: list[Callable[[], object]] = []

    def synchronize(self) -> None:
        while self.pending:
            self.pending.pop()()


class Graph(TorchDispatchMode):
    """A graph, and the context that records it."""

    def __init__(self) -> None:
        super().__init__()
        self.replays = 0
        self._steps: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self._steps.append((func, args, kwargs or {}, out))
        return out

    def replay(self) -> None:
        self.replays += 1
        for func, args, kwargs, out in self._steps:
            again = func(*args, **kwargs)
            for old, new in zip(tree_leaves(out), tree_leaves(again), strict=True):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)

    def reset(self) -> None:
        self._steps.clear()


class FakeGpu:
    def __init__(self) -> None:
        self.in_flight = 0
        self.most_in_flight = 0
        self.graphs: list[Graph] = []

    def transfer(self, pair: HostDeviceIOPair, stream: Any) -> None:
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        pair.host_io.output_ids.fill_(UNKNOWN)

        def arrive() -> None:
            self.in_flight -= 1
            pair.host_io.output_ids.copy_(pair.device_io.output_ids)

        stream.pending.append(arrive)

    def new_graph(self) -> Graph:
        self.graphs.append(Graph())
        return self.graphs[-1]


@contextlib.contextmanager
def fake_gpu() -> Iterator[FakeGpu]:
    gpu = FakeGpu()

    def nothing(*_: object) -> Any:
        return contextlib.nullcontext()

    def transfer(pair: HostDeviceIOPair, stream: Any) -> None:
        gpu.transfer(pair, stream)

    def recording(graph: Graph, **_: object) -> Graph:
        return graph

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ContinuousBatchingAsyncIOs, "_supported_device_types", ("cpu",))
        patch.setattr(torch, "Event", Event)
        patch.setattr(input_outputs, "create_device_stream", lambda _: Stream())
        patch.setattr(HostDeviceIOPair, "transfer_outputs_d2h", transfer)
        for module in (input_outputs, model_runner, offloading_manager, graphs):
            patch.setattr(module, "stream_context", nothing)
        for module in (initialization, transformers_engine):
            patch.setattr(module, "get_accelerator_graph_name", lambda: "FakeGraph")
        patch.setattr(model_runner, "create_accelerator_graph", gpu.new_graph)
        patch.setattr(model_runner, "accelerator_graph_capture_context", recording)
        patch.setattr(model_runner, "get_memory_pools", lambda: (None, 0))
        patch.setattr(model_runner, "memory_pool_context", nothing)
        yield gpu
