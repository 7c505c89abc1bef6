"""``lore up`` with the synthetic engine: the real store, generator and two edges."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

START_LIMIT_S = 60
STOP_LIMIT_S = 40
RATE_TOKENS_PER_S = 40
LENGTH_TOKENS = 160
LONG = {"LORE_SYNTHETIC_RATE": "20", "LORE_SYNTHETIC_LENGTH": "500"}
"""Answers of 25 s, for tests that do something in the middle: on a busy machine a browser takes
seconds to press a few buttons."""


@dataclass(frozen=True)
class Stack:
    urls: list[str]

    def view(self, request_id: str) -> dict:
        return httpx.get(f"{self.urls[0]}/v1/streams/{request_id}").raise_for_status().json()


@contextmanager
def lore_up(data_dir: Path, *more: str, **settings: str) -> Iterator[Stack]:
    command = [str(Path(sys.executable).with_name("lore")), "up", "--engine", "synthetic"]
    options = ["--port", "0", "--data-dir", str(data_dir), *more]
    rate = {"LORE_SYNTHETIC_RATE": str(RATE_TOKENS_PER_S)}
    length = {"LORE_SYNTHETIC_LENGTH": str(LENGTH_TOKENS)}
    process = subprocess.Popen(
        [*command, *options],
        env={**os.environ, **rate, **length, **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    watchdog = threading.Timer(START_LIMIT_S, process.kill)
    watchdog.start()
    said: list[str] = []
    try:
        for line in process.stdout:
            said.append(line)
            if line.strip().startswith("Edges "):
                break
        else:
            raise AssertionError("lore up did not start:\n" + "".join(said))
        watchdog.cancel()
        yield Stack(said[-1].split()[1:])
    finally:
        watchdog.cancel()
        process.terminate()
        process.communicate(timeout=STOP_LIMIT_S)
