"""A generator that notes when it appended which chunks, and writes that down on SIGUSR1.

``BENCH_TIMES`` names the file: lines of "<request> <first seq> <last seq> <time>", the time on
the machine's monotonic clock. A note costs the loop about 0.3 µs.
"""

import os
import signal
import threading
import time
from pathlib import Path

from lore.store.base import Step, Tell
from lore.store.valkey.appends import Appends
from lore_generator.main import main

_notes: list[tuple[str, int, int, float]] = []
_send = Appends.send


def _noted(self: Appends, step: Step, tell: Tell) -> None:
    now_s = time.perf_counter()
    for _, command in step:
        if chunks := command.chunks:
            _notes.append((command.request_id, chunks[0].seq, chunks[-1].seq, now_s))
    _send(self, step, tell)


def write_down(notes: list[tuple[str, int, int, float]], path: Path) -> None:
    """In a thread: for each SIGUSR1, all notes so far."""
    while True:
        signal.sigwait({signal.SIGUSR1})
        part = path.with_suffix(".part")
        part.write_text("".join(f"{n[0]} {n[1]} {n[2]} {n[3]!r}\n" for n in tuple(notes)))
        part.rename(path)


def start_writer(notes: list[tuple[str, int, int, float]], path: Path) -> None:
    """Call it before any other thread runs: the signal is this one's alone."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    threading.Thread(target=write_down, args=(notes, path), daemon=True).start()


if __name__ == "__main__":
    start_writer(_notes, Path(os.environ["BENCH_TIMES"]))
    Appends.send = _noted  # type: ignore[method-assign]
    main()
