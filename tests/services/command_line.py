"""Runs ``lore`` as people do: as a process of its own, with everything that it starts."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

import psutil

from tests.programs import have_ended

DEADLINE_S = 300.0
LORE = [sys.executable, "-m", "lore.cli"]


def environment(**settings: str) -> dict[str, str]:
    """Ours, without settings that somebody may have left there."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("LORE_")}
    return ours | {"NO_COLOR": "1", "COLUMNS": "100"} | settings


def lore(*words: str, data_dir: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """One command to its end."""
    return subprocess.run(
        [*LORE, *words, "--data-dir", str(data_dir)],
        env=environment(**settings),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


class Running:
    """One command that goes on. Leaving the context kills it, and with it what it started."""

    def __init__(self, *words: str, data_dir: Path, **settings: str) -> None:
        self.data_dir = data_dir
        self.process = subprocess.Popen(
            [*LORE, *words, "--data-dir", str(data_dir)],
            env=environment(**settings),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )
        self.seen = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        children = self.children()
        self.process.kill()
        self.process.communicate(timeout=DEADLINE_S)
        have_ended(children, DEADLINE_S)

    def until(self, words: str, *, errors: bool = False) -> str:
        """Read its output, or its errors, until it has said ``words`` after what was read
        before.
        """
        out = self.process.stderr if errors else self.process.stdout
        assert out is not None
        new = b""
        deadline = time.monotonic() + DEADLINE_S
        while words.encode() not in new:
            ready, _, _ = select.select([out], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(out.fileno(), 65_536) if ready else b""
            if not data:
                raise AssertionError(f"it never said {words!r}, but: {new.decode()}")
            new += data
        self.seen += new.decode()
        return new.decode()

    def finish(self) -> tuple[int, str, str]:
        """Exit status, the rest of its output, and its errors."""
        out, err = self.process.communicate(timeout=DEADLINE_S)
        return self.process.returncode, out.decode(), err.decode()

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def children(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def child(self, *words: str) -> psutil.Process:
        """The one child whose command line and environment have all these words."""

        def told(process: psutil.Process) -> str:
            return " ".join([*process.cmdline(), *map("=".join, process.environ().items())])

        (found,) = [p for p in self.children() if all(word in told(p) for word in words)]
        return found

    @property
    def record(self) -> dict[str, object]:
        return json.loads((self.data_dir / "running.json").read_text())

    @property
    def edges(self) -> list[str]:
        edges = self.record["edges"]
        assert isinstance(edges, list)
        return edges
