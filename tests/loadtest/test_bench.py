"""Benchmarks run to their end, small. Whether their figures mean anything is not asked here.

Those that need a model, another server or minutes are left out.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ONCE = ["--dry", "--rounds", "1"]
SMALL = {
    "acks": [*ONCE, "--streams", "2", "--connections", "2", "--seconds", "1"],
    "delivery": [*ONCE, "--streams", "2", "--seconds", "1"],
    "metrics": ["--dry", "--streams", "4", "--turns", "2"],
    "replicas": [*ONCE, "--seconds", "1"],
    "resume": ["--dry", "--chunks", "10", "--times", "3", "--storm", "10"],
    "weights": [*ONCE, "--streams", "4", "--tokens", "20"],
}


@pytest.mark.parametrize("name", SMALL)
def test_a_benchmark_runs_to_its_end(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"loadtest.bench.{name}", *SMALL[name]],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"`python -m loadtest.bench.{name}`" in done.stdout
