"""The script's parts: each has a bound of its own, and what did not run is said."""

import gc
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import psutil
import torch

Row = dict[str, Any]
Work = Callable[[float], Iterator[Row]]
"""Yields rows; takes the time, by ``time.perf_counter``, at which it raises TimeoutError."""


@dataclass
class Part:
    name: str
    bound_s: float
    state: str = "not run"
    """``done``, ``stopped`` (at its bound), ``failed``, or ``not run``."""
    why: str = ""
    took_s: float = 0.0
    rows: list[Row] = field(default_factory=list[Row])


def run_part(part: Part, work: Work, ends_s: float) -> None:
    """Run a part within its bound and before ``ends_s``. Its rows so far stay, whatever happens."""
    began_s = time.perf_counter()
    until_s = min(began_s + part.bound_s, ends_s)
    if began_s >= until_s:
        part.why = "no time was left"
        return
    try:
        for row in work(until_s):
            part.rows.append(row)
            print(json.dumps({"part": part.name, **row}), flush=True)
        part.state = "done"
    except TimeoutError as error:
        part.state, part.why = "stopped", str(error)
    except Exception as error:  # noqa: BLE001 the other parts still run
        part.state, part.why = "failed", f"{type(error).__name__}: {error}".splitlines()[0]
    part.took_s = round(time.perf_counter() - began_s, 1)
    free_memory()


def left(until_s: float) -> float:
    """The seconds left. Raises TimeoutError when there are none."""
    rest_s = until_s - time.perf_counter()
    if rest_s <= 0:
        raise TimeoutError("its bound was reached")
    return rest_s


def free_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def memory_gib() -> float:
    """The most that was in use on the GPU since ``free_memory``; on a CPU, the process's now."""
    if torch.cuda.is_available():
        return round(torch.cuda.max_memory_allocated() / 2**30, 2)
    return round(psutil.Process().memory_info().rss / 2**30, 2)
