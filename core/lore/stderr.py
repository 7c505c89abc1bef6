"""Standard error that neither raises nor blocks; lines that cannot be written are counted.

The disk may be full, the pipe's reader gone or asleep, the descriptor closed: code that logs goes
on all the same. A thread writes, from a queue that is bounded in bytes. Once writing works again, a
line says how many are missing.
"""

import atexit
import io
import os
import select
import threading
from collections import deque
from collections.abc import Callable
from functools import cache

MAX_QUEUED_BYTES = 1 << 20
RETRY_S = 1.0
"""How often to try to write how many lines are missing, while nothing else is logged."""
LAST_WORDS_S = 0.5
"""How many seconds the process waits at its end for queued lines."""


class Stderr(io.TextIOBase):
    """The replacement of sys.stderr. A line may arrive in parts; each thread has its own parts."""

    encoding = "utf-8"

    def __init__(self, fd: int = 2) -> None:
        self.on_lost: Callable[[int], None] = lambda _: None
        """Called with the number of lines whenever some are lost, with a lock held."""
        self.notice: Callable[[int], str] = "{} log lines lost\n".format
        """The line that says how many are missing."""
        self._fd = fd
        self._parts = threading.local()
        self._changed = threading.Condition()
        self._lines: deque[bytes] = deque()
        self._queued_bytes = 0
        self._lost = 0
        self._is_writing = False
        self._is_torn = False
        """Whether a line was begun and could not be finished."""
        self._thread: threading.Thread | None = None

    def write(self, text: str, /) -> int:
        kept: str = getattr(self._parts, "text", "") + text
        lines, newline, self._parts.text = kept.rpartition("\n")
        if newline:
            self._put(lines + newline)
        return len(text)

    def flush(self) -> None:
        """Queue what was written, also an incomplete line. Does not wait."""
        text: str = getattr(self._parts, "text", "")
        self._parts.text = ""
        if text:
            self._put(text)

    def drain(self, timeout_s: float = LAST_WORDS_S) -> None:
        """Wait until everything is written or lost, for ``timeout_s`` at most."""
        with self._changed:
            self._changed.wait_for(lambda: not self._lines and not self._is_writing, timeout_s)

    def lose(self, lines: int = 1) -> None:
        """Count lines that were lost before they arrived here."""
        with self._changed:
            self._lost += lines
            self.on_lost(lines)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        return os.isatty(self._fd)

    def _put(self, text: str) -> None:
        line = _encoded(text)
        with self._changed:
            if self._queued_bytes + len(line) > MAX_QUEUED_BYTES or not self._has_thread():
                self.lose()
                return
            self._lines.append(line)
            self._queued_bytes += len(line)
            self._changed.notify_all()

    def _has_thread(self) -> bool:
        if self._thread is None or not self._thread.is_alive():
            thread = threading.Thread(target=self._run, name="stderr", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # too many threads; perhaps not when the next line comes
                return False
            self._thread = thread
        return True

    def _run(self) -> None:
        while True:
            with self._changed:
                self._is_writing = False
                self._changed.notify_all()
                if not self._lines:
                    self._changed.wait(RETRY_S if self._lost else None)
                self._is_writing = True
                line = self._lines.popleft() if self._lines else b""
                lost = self._lost
            missing = _encoded(self.notice(lost)) if lost else b""
            done = self._write(missing + line)
            with self._changed:
                self._queued_bytes -= len(line)
                if done:
                    self._lost -= lost
                elif line:
                    self.lose()

    def _write(self, data: bytes) -> bool:
        left = memoryview(b"\n" + data if self._is_torn and data else data)
        while left:
            try:
                written = os.write(self._fd, left)
            except BlockingIOError:
                waiting = select.poll()
                waiting.register(self._fd, select.POLLOUT)
                waiting.poll()
                continue
            except OSError:
                return False
            left = left[written:]
            self._is_torn = bool(left)
        return True


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")


@cache
def stream() -> Stderr:
    """The stream of this process. At its end, queued lines are written, with a short wait."""
    for fd in range(3):  # else a file opened later could get the log
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    made = Stderr()
    atexit.register(made.drain)
    return made
